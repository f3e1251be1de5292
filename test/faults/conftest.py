# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Fault cases within the test suite: only the short ones, repeated once after a failure."""

import pytest


def pytest_collection_modifyitems(config, items):
    """Leave out long cases and repeat failed ones: other tests run at the same time."""
    if hasattr(config, 'campaign'):
        return
    for item in items:
        if item.get_closest_marker('case'):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.flaky(reruns=1))
    alone = [item for item in items if item.get_closest_marker('alone')]
    if alone:
        config.hook.pytest_deselected(items=alone)
        items[:] = [item for item in items if item not in alone]
