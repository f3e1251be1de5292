# SPDX-License-Identifier: Apache-2.0
"""Gives each fault case its rig; how often and how long it runs, ``make faults`` can say."""

import pytest

# Other tests run beside, and take the processor.
PATIENCE = 4.0


@pytest.fixture
def rig(request, tmp_path):
    """Processes in a ROS domain of their own, and what is expected of them."""
    from faults.rig import Rig

    campaign = getattr(request.config, 'campaign', None)
    options = {'folder': tmp_path, 'quick': True, 'patience': PATIENCE}
    with Rig(**(campaign.options(request) if campaign else options)) as made:
        yield made


def pytest_collection_modifyitems(config, items):
    """Leave out cases that take long, and run one that failed again: the machine is shared."""
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
