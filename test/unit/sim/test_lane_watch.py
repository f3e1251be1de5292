# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lane invasions: once per crossing, with the marking's type."""

import numpy as np

from td3_agent.sim.car import LaneWatch
from td3_agent.sim.markings import Marking

BROKEN, SOLID = 1, 2
LENGTH_M, WIDTH_M = 4.0, 2.0


def line(y, kind, x0=0.0, x1=100.0):
    x = np.linspace(x0, x1, 101)
    return Marking(np.column_stack((x, np.full_like(x, y))), kind, 0)


def watch(*markings):
    watch = LaneWatch(tuple(markings), LENGTH_M, WIDTH_M)
    watch.start(20.0, 0.0, 0.0)
    return watch


def test_event_comes_when_the_outline_reaches_the_line_and_not_again():
    lanes = watch(line(1.75, BROKEN), line(-1.75, SOLID))
    assert lanes.update(20.5, 0.7, 0.0) == ()
    assert lanes.update(21.0, 0.8, 0.0) == (BROKEN,)
    assert lanes.update(21.5, 1.75, 0.0) == ()
    assert lanes.update(22.0, 2.6, 0.0) == ()  # still on it
    assert lanes.update(22.5, 3.0, 0.0) == ()  # across
    assert lanes.update(23.0, 2.6, 0.0) == (BROKEN,)  # and back


def test_touching_twice_gives_two_events():
    lanes = watch(line(-1.75, SOLID))
    ys = (-0.8, 0.0, -0.8)
    assert [lanes.update(20.0, y, 0.0) for y in ys] == [(SOLID,), (), (SOLID,)]


def test_turned_car_reaches_with_its_corner():
    lanes = watch(line(1.75, BROKEN))
    assert lanes.update(20.0, 0.0, 0.3) == ()  # 2 sin 0.3 + cos 0.3 = 1.55
    assert lanes.update(20.0, 0.0, 0.6) == (BROKEN,)  # 2 sin 0.6 + cos 0.6 = 1.95


def test_two_lines_at_once():
    lanes = watch(line(1.75, BROKEN), line(-1.75, SOLID))
    assert sorted(lanes.update(20.0, 0.0, 1.5)) == [BROKEN, SOLID]


def test_line_that_goes_on_in_the_next_road_is_one_line():
    lanes = watch(line(1.75, SOLID, 0.0, 40.0), line(1.75, SOLID, 40.0, 80.0))
    assert lanes.update(30.0, 1.0, 0.0) == (SOLID,)
    assert [lanes.update(x, 1.0, 0.0) for x in np.arange(30.0, 60.0, 0.5)] == [()] * 60


def test_broken_line_that_turns_solid_is_two():
    lanes = watch(line(1.75, BROKEN, 0.0, 40.0), line(1.75, SOLID, 40.0, 80.0))
    assert lanes.update(30.0, 1.0, 0.0) == (BROKEN,)
    events = [lanes.update(x, 1.0, 0.0) for x in np.arange(30.0, 60.0, 0.5)]
    assert [event for event in events if event] == [(SOLID,)]


def test_starting_on_a_line_is_no_invasion():
    lanes = LaneWatch((line(0.0, SOLID),), LENGTH_M, WIDTH_M)
    lanes.start(20.0, 0.0, 0.0)
    assert lanes.update(20.5, 0.0, 0.0) == ()


def test_map_without_markings():
    assert watch().update(0.0, 0.0, 0.0) == ()
