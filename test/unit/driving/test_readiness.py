# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is missing, whether a tick may bring it, and what a restart makes of what was there."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.readiness import StepReadiness

ROLE = 'ego_vehicle'
VEHICLE, GATE, AGENT = f'vehicle of {ROLE}', f'gate of {ROLE}', f'agent of {ROLE}'
ALL = {'bridge', VEHICLE, GATE, AGENT}


def readiness(present=ALL, waits=(), *, under_way=False, roles=(ROLE,)):
    found = StepReadiness(roles, wait_for_agent=True)
    found.look(present, {ROLE: waits} if waits else {}, under_way=under_way)
    return found


def test_all_there_means_a_step_and_no_idle_ticks():
    found = readiness()
    assert (found.absent, found.describe(), found.needs_ticks) == ([], '', False)


@pytest.mark.parametrize(
    ('missing', 'waits', 'ticks', 'text'),
    [
        (ALL, (), False, ''),
        ({VEHICLE, GATE, AGENT}, (), True, VEHICLE),  # they wait for the vehicle themselves
        ({VEHICLE}, (), True, f'{VEHICLE}; idle ticks, with full brake'),
        ({AGENT}, ('route',), True, f'{AGENT} (waits for route); idle ticks'),
        ({AGENT}, ('camera', 'gate'), True, f'{AGENT} (waits for camera, gate)'),
        ({AGENT}, ('gate',), False, f'{AGENT} (waits for gate)'),
        ({AGENT}, (), False, AGENT),  # only a person can bring it
        ({GATE}, (), False, GATE),
        ({GATE, AGENT}, ('route',), False, GATE),  # no gate, no brake
    ],
)
def test_ticks_are_wanted_for_what_they_bring(missing, waits, ticks, text):
    found = readiness(ALL - missing, waits)
    assert found.needs_ticks == ticks
    assert text in found.describe()
    assert bool(found.describe()) == bool(missing)


def test_after_a_restart_a_vehicle_counts_once_it_is_heard_of():
    found = readiness()
    found.follow(1, None)
    assert found.absent == [VEHICLE]  # its publisher in the graph may be that of a dead bridge
    found.look(ALL, {}, under_way=True)
    assert found.absent == [VEHICLE]
    found.moved(ROLE, 100)
    assert found.absent == []
    found.follow(1, None)
    assert found.absent == []


def test_odometry_that_overtakes_the_clock_of_a_jump_is_heard():
    roles = ('red', 'blue')
    found = readiness(set(StepReadiness(roles, wait_for_agent=True).names), roles=roles)
    found.moved('red', 900)
    found.moved('blue', 900)
    found.moved('red', 100)  # time has run back, and its /clock is still on its way
    found.follow(1, 100)
    assert found.absent == ['vehicle of blue']
    found.follow(2, None)  # another bridge, whose time is not known
    assert found.absent == ['vehicle of red', 'vehicle of blue']


def test_vehicle_that_was_exchanged_counts_once_it_is_heard_of():
    found = readiness()
    found.look(ALL - {VEHICLE}, {}, under_way=True)
    found.look(ALL, {}, under_way=True)
    assert found.absent == [VEHICLE]
    found.moved(ROLE, 100)
    assert found.vehicles_present


def test_without_idle_ticks_a_vehicle_need_not_be_heard_of():
    found = StepReadiness([ROLE], wait_for_agent=True, idle_ticks=False)
    found.look(ALL, {}, under_way=True)
    found.follow(1, None)  # the paused bridge would never send another odometry
    assert found.absent == []
    found.look(ALL - {VEHICLE}, {}, under_way=True)
    assert not found.needs_ticks
    assert 'idle ticks' not in found.describe()
    found.look(ALL, {}, under_way=True)
    assert found.vehicles_present


def test_vehicle_of_a_paused_bridge_need_not_be_heard_of():
    assert readiness().vehicles_present


def test_agent_that_is_gone_does_not_stop_the_others_once_they_are_under_way():
    roles = ('red', 'blue')
    names = set(StepReadiness(roles, wait_for_agent=True).names)
    found = readiness(names - {'agent of red'}, under_way=True, roles=roles)
    assert (found.absent, found.braked) == ([], ['agent of red'])
    found = readiness(names - {'agent of red', 'agent of blue'}, under_way=True, roles=roles)
    assert (found.absent, found.braked) == (['agent of red', 'agent of blue'], [])


def test_one_vehicle_of_two_that_is_gone_means_idle_ticks_for_both():
    roles = ('red', 'blue')
    names = set(StepReadiness(roles, wait_for_agent=True).names)
    found = readiness(names - {'vehicle of blue'}, under_way=True, roles=roles)
    assert found.needs_ticks
    assert not found.vehicles_present


@given(st.lists(st.sets(st.integers(0, 3)), max_size=8))
def test_another_bridge_is_one_that_was_not_there(looks):
    found, known = StepReadiness([ROLE], wait_for_agent=True), set()
    for publishers in looks:
        assert found.is_another_bridge(publishers) == bool(known and publishers - known)
        known |= publishers
