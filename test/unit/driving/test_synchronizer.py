# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The synchronizer's decisions without ROS: who is waited for, who is braked, what is sent."""

import pytest

from td3_agent.driving.command import FULL_BRAKE, VehicleControl
from td3_agent.driving.endpoints import Finding
from td3_agent.driving.ledger import read_ledger
from td3_agent.driving.lockstep import Phase
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.stepping import BridgeRequest
from td3_agent.driving.synchronizer import Orders, Synchronizer, SynchronizerParams
from td3_agent.driving.vehicle import VehicleState

STEP_NS = 50_000_000
SECOND_NS = 1_000_000_000
RED, BLUE = 'red', 'blue'


class CoreDrive:
    """A synchronizer, and a bridge with its gates that do as a test says."""

    def __init__(self, roles=(RED,), **params):
        self.roles, self.now_ns, self.frame, self.faults = roles, SECOND_NS, 10, []
        params = {'role_names': roles, 'real_time_factor': 0.0, **params}
        self.core = Synchronizer(SynchronizerParams(**params), self.faults.append)

    def look(self, missing=(), waits=None):
        present = set(self.core.readiness.names) - set(missing)
        under_way = self.core.lockstep.counts.steps > 0
        self.core.readiness.look(present, waits or {}, under_way=under_way)
        return self

    def advance(self, after_s=0.0):
        self.now_ns += round(after_s * SECOND_NS)
        orders = self.core.advance(self.now_ns)
        self.core.write_ended(self.now_ns)
        return orders

    def status(self, *, running, step_s=0.05):
        self.core.on_status(self.frame, running=running, step_s=step_s, now_ns=self.now_ns)

    def pause(self):
        """Let the first pause be asked for and come."""
        orders = self.advance()
        assert orders.request is BridgeRequest.PAUSE
        self.status(running=False)
        return orders

    @property
    def stamp_ns(self):
        return self.frame * STEP_NS

    def tick(self):
        """What the bridge says of a step, up to its end."""
        self.frame += 1
        self.status(running=True)
        self.core.lockstep.on_clock(self.stamp_ns)

    def move(self, role):
        rest = dict.fromkeys(('x_m', 'y_m', 'z_m', 'yaw_rad', 'speed_mps', 'yaw_rate_radps'), 0.0)
        self.core.on_motion(role, VehicleState(stamp_ns=self.stamp_ns, **rest))

    def report(self, role, outcome):
        self.core.on_gate_report(role, self.stamp_ns, {'outcome': outcome})

    def step(self, outcome='ok'):
        """Make one whole step; return the orders of its beginning."""
        orders = self.advance()
        self.tick()
        for role in self.roles:
            self.core.on_command(role, self.stamp_ns, VehicleControl(throttle=0.5), self.now_ns)
            self.report(role, outcome)
        self.status(running=False)
        return orders

    def told(self, duplicates=()):
        return self.core.describe(self.now_ns, duplicates, 0)


def test_one_step_each_time_all_gates_have_said_that_their_command_is_out():
    drive = CoreDrive((RED, BLUE)).look()
    drive.pause()
    assert drive.advance().request is BridgeRequest.STEP_ONCE
    drive.tick()
    drive.status(running=False)
    # A command that is seen may not have reached the bridge yet: only its report counts.
    for role in (RED, BLUE):
        drive.core.on_command(role, drive.stamp_ns, VehicleControl(), drive.now_ns)
    assert drive.advance().request is None
    drive.report(RED, 'ok')
    assert drive.advance().request is None
    drive.report(BLUE, 'stopped_no_command')
    assert drive.advance().request is BridgeRequest.STEP_ONCE
    assert drive.core.is_driving


def test_before_the_start_everything_is_waited_for_and_the_worst_is_named():
    drive = CoreDrive((RED, BLUE)).look(missing={'agent of blue'})
    drive.pause()
    assert drive.advance().request is None
    assert not drive.core.is_driving
    told = drive.told()
    assert told.message == 'no step while these are silent or missing: agent of blue'
    assert (told.is_warning, told.console) == (True, told.message)


def test_under_way_one_agent_that_is_gone_is_braked_and_the_others_drive_on():
    drive = CoreDrive((RED, BLUE)).look()
    drive.pause()
    drive.step()
    drive.look(missing={'agent of blue'})
    assert drive.step().request is BridgeRequest.STEP_ONCE
    assert drive.told().message == 'silent or missing, the gate brakes its car: agent of blue'
    assert drive.told().is_error
    drive.look(missing={'agent of blue', 'agent of red'})
    assert drive.advance(5.0).request is None


def test_gates_learn_of_idle_ticks_before_the_tick_and_once():
    drive = CoreDrive().look(missing={'agent of red'}, waits={RED: ['route']})
    assert drive.pause().is_idle
    orders = [drive.advance(0.1) for _ in range(30)]
    assert [one.request for one in orders].count(BridgeRequest.STEP_ONCE) == 1
    assert {one.is_idle for one in orders} == {None}
    assert not drive.core.is_driving
    drive.tick()
    drive.report(RED, 'stopped_idle')
    drive.status(running=False)
    assert drive.look().advance() == Orders(is_idle=False, request=BridgeRequest.STEP_ONCE)


def test_only_a_gate_in_doubt_learns_that_a_step_has_ended_and_once():
    drive = CoreDrive((RED, BLUE)).look()
    drive.pause()
    drive.step()
    drive.report(RED, 'stopped_silence')
    drive.advance()
    drive.tick()
    assert not drive.advance().ended  # it has not ended yet
    drive.status(running=False)
    assert drive.core.lockstep.phase is Phase.WAITING
    assert drive.advance().ended == {RED}
    assert not drive.advance().ended
    drive.report(RED, 'stopped_in_advance')  # the doubt goes on
    drive.report(BLUE, 'ok')
    drive.advance()
    drive.tick()
    drive.status(running=False)
    assert drive.advance().ended == {RED}
    drive.report(RED, 'ok')
    drive.report(BLUE, 'ok')
    drive.advance()
    drive.tick()
    drive.status(running=False)
    assert not drive.advance().ended


def test_stop_between_frames_is_no_second_command(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    drive = CoreDrive(ledger_path=str(path)).look()
    drive.pause()
    drive.step()
    drive.core.on_command(RED, drive.stamp_ns, FULL_BRAKE, drive.now_ns)
    drive.report(RED, 'stopped_silence')
    drive.step()
    drive.advance()
    assert drive.core.close([]) == []
    first, second = read_ledger(path)
    assert (first['commands'], first['outcome']) == (1, 'stopped_silence')
    assert (second['commands'], second['outcome']) == (1, 'ok')
    assert first['step_sent_ns'] <= first['acknowledged_ns'] <= first['frame_closed_ns']
    assert not drive.core.has_failed


def test_another_bridge_begins_anew_unless_its_count_has_told_already():
    drive = CoreDrive().look()
    drive.core.on_bridges(['first'])
    drive.pause()
    drive.step()
    drive.core.on_bridges(['first'])
    assert drive.core.lockstep.counts.restarts == 0
    drive.core.on_bridges(['first', 'second'])
    assert drive.core.lockstep.counts.restarts == 1
    drive.core.lockstep.on_clock(10 * SECOND_NS)
    drive.core.lockstep.on_clock(1)  # time ran back
    assert drive.core.lockstep.counts.restarts == 2
    drive.core.on_bridges(['third'])
    assert drive.core.lockstep.counts.restarts == 2


def test_a_vehicle_of_a_dead_bridge_counts_once_its_odometry_comes():
    drive = CoreDrive().look()
    drive.pause()
    drive.step()
    drive.core.lockstep.restart()
    drive.advance()
    assert drive.core.readiness.absent == ['vehicle of red']
    drive.move(RED)
    assert drive.core.readiness.absent == []


@pytest.mark.parametrize(('step_s', 'is_error'), [(0.1, True), (0.05000000074505806, False)])
def test_another_step_length_than_the_bridge_has_is_an_error(step_s, is_error):
    drive = CoreDrive().look()
    drive.pause()
    drive.status(running=False, step_s=step_s)
    assert drive.told().is_error == is_error
    if is_error:
        assert drive.told().message == 'fixed_delta_seconds is 0.1 s at the bridge, 0.05 s here'


def test_duplicates_go_first_and_their_time_is_not_written_again_and_again():
    drive = CoreDrive().look()
    drive.pause()
    found = Finding('two bridges for 3.1 s: end one', is_error=True, key='two bridges: end one')
    told = drive.told([found])
    assert (told.message, told.console) == (found.text, found.key)


def test_a_drive_with_a_violation_has_failed():
    drive = CoreDrive().look()
    drive.pause()
    drive.step()
    assert not drive.core.has_failed
    drive.core.on_command(RED, drive.stamp_ns, VehicleControl(), drive.now_ns)
    for _ in range(6):
        drive.step()
    assert drive.core.breaks.violations > 0
    assert drive.told().message == 'lockstep violations'
    assert drive.core.has_failed


def test_an_odometry_topic_for_several_vehicles_is_rejected():
    with pytest.raises(ParameterError, match="must be empty for 2 role_names, got '/odom'"):
        SynchronizerParams(role_names=(RED, BLUE), odometry_topic='/odom')
