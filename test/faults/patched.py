# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a program without one of its guards: ``patched.py PLACE EXPRESSION MODULE WORDS``.

The product has no switch for this: an attribute is replaced before ``main`` of the module runs.
"""

from importlib import import_module
from pkgutil import resolve_name
import sys
from unittest import mock  # noqa: F401  expressions use it

from rclpy.node import ParameterDescriptor  # noqa: F401

from td3_agent.driving.reports import Status  # noqa: F401


def replacement(place, expression):
    """Return the owner of an attribute of the package, its name, and the new value."""
    owner, _, name = f'td3_agent.{place}'.rpartition('.')
    return resolve_name(owner), name, eval(expression)


if __name__ == '__main__':
    place, expression, module, *words = sys.argv[1:]
    setattr(*replacement(place, expression))
    sys.argv = [module, *words]
    sys.exit(import_module(module).main())
