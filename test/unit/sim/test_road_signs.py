# SPDX-License-Identifier: Apache-2.0
"""Stop lines, arrows and crossings lie on the lanes, before the junctions."""

from dataclasses import replace

import numpy as np
import pytest

from td3_agent.sim.maps import load_map
from td3_agent.sim.roadside import Roadside, sign_outlines

NONE = Roadside()


@pytest.mark.parametrize('name', ['town', 'arterial'])
@pytest.mark.parametrize('kind', ['stop_lines', 'arrows', 'crossings'])
def test_signs_lie_on_lanes_that_lead_into_a_junction(name, kind):
    road = load_map(name, 0)
    outlines = sign_outlines(road, replace(NONE, **{kind: True}))
    entering = [lane for lane in road.driving_lanes if lane.span.in_junction]
    starts = np.array([lane.centre[0, :2] for lane in entering])
    assert len(outlines) >= len({tuple(np.round(start, 1)) for start in starts})
    for outline in outlines:
        x, y = outline.mean(axis=0)
        fix = road.locate(x, y)
        assert fix.on_road
        assert not fix.in_junction
        assert np.hypot(*(starts - (x, y)).T).min() < 17.0


def test_there_are_none_where_none_are_wanted_or_no_junction_is():
    assert sign_outlines(load_map('town', 0), NONE) == []
    signed = replace(NONE, stop_lines=True, arrows=True, crossings=True)
    assert sign_outlines(load_map('winding', 0), signed) == []
