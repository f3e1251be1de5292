# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions that are not legal at the moment: refused, not fatal.

Up to Jazzy, rclpy lets the state machine's refusal escape from the service's callback, which
ends the process: a manager that activates twice would take the driver away from a moving car.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode


def refuse_illegal_transitions(node: LifecycleNode) -> None:
    """Let the node's ``change_state`` service answer what it cannot do with ``success: false``."""
    for service in node.services:
        if service.srv_name.endswith('/change_state'):
            service.callback = partial(_guarded, service.callback)


def _guarded(change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:  # noqa: ANN401
    try:
        return change(request, response)
    except RuntimeError:  # RCLError; the log has told which transition and state
        response.success = False
        return response
