# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The whole loop in processes of its own: every frame as without ROS, and how the demo ends."""

from collections import Counter
from itertools import chain
import json
import os
import random
import re
import signal
import time

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl
from harness.ledgers import check_ledger
from harness.messages import ROLE
from harness.programs import shared_memory
from harness.rig import AGENT, BRIDGE, GATE, NODE_NAMES, NODES, SYNCHRONIZER, WHOLE, audited
from nav_msgs.msg import Odometry
import pytest
from rosgraph_msgs.msg import Clock

from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.ledger import LogCounts, read_findings, read_ledger
from td3_agent.driving.loop import ledger_records, respond
from td3_agent.driving.stages import END_TO_END, STAGES, end_to_end_ns
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.evaluation.ledger_command import agreement, first_difference
from td3_agent.nodes import topics
from td3_agent.nodes.bridge_publisher import path_message
from td3_agent.nodes.conversions import route_from_path
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.nodes.runtime import RELIABLE
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_simulator
from td3_agent.sim.embedded import frame_of

pytestmark = pytest.mark.system

LANE = {'driver': 'td3', 'policy': 'lane'}
DRIVERS = {'red': LANE, 'blue': {'driver': 'pure_pursuit'}}  # by role, of two vehicles
TWO_VEHICLES = {'role_names': list(DRIVERS), 'spawn_index': 0, 'map': 'winding'}
PATIENT = {'deadline_s': 0.9, 'silence_s': 60.0}  # a busy machine is not what is tested here
WAIT_S = 20.0  # of all who wait where six processes share the machine


def settings(frames, *, agent=None, bridge=None, real_time_factor=0.0):
    """Return the parameters of a drive of so many frames, as fast as it goes."""
    return {
        BRIDGE: {'map': 'winding'} | (bridge or {}),
        GATE: PATIENT,
        AGENT: agent or {'driver': 'pure_pursuit'},
        SYNCHRONIZER: {'real_time_factor': real_time_factor, 'max_frames': frames},
    }


def ledger_of(drive, *findings):
    """Wait for the end of a drive; return its ledger, in which these findings must hold."""
    drive.wait_until_over()
    synchronizer, path = drive.nodes[SYNCHRONIZER], drive.ledger_paths[-1]
    ledger = drive.finish(*findings).records
    bad = [finding.text for finding in read_findings(path) if finding.is_error]
    assert synchronizer.process.returncode == int(bool(bad or counts_of(ledger).violations)), bad
    return ledger


def counts_of(ledger):
    counts = LogCounts()
    for record in ledger:
        counts.add(record)
    return counts


def check_clean(ledger, frames):
    """Every frame answered by the agent, none lost, none doubled."""
    assert check_ledger(ledger) == []
    first = ledger[0]['frame']
    assert [record['frame'] for record in ledger] == list(range(first, first + frames))
    assert counts_of(ledger).outcomes == {'ok': frames}


def check_same(ledger, direct):
    """The drive is the one without ROS, hash by hash."""
    assert first_difference(ledger, direct) is None
    assert agreement(direct, ledger)['equal']
    assert ledger[-1]['speed_mps'] > 3.0


def check_stages(ledger):
    """Stages of three processes add up to what the synchronizer alone has seen."""
    for record in ledger:
        stages, whole_ns = record['stages_ns'], end_to_end_ns(record)
        assert list(stages) == list(STAGES)
        assert min(stages.values()) >= 0, record['frame']
        assert sum(stages.values()) == pytest.approx(whole_ns, rel=0.05), record['frame']


class TestLockstep:
    @pytest.mark.parametrize(
        ('frames', 'agent', 'bridge'),
        [
            (160, {'driver': 'pure_pursuit'}, {}),
            (120, {'driver': 'td3', 'policy': 'route'}, {'map': 'town'}),
            # The acknowledgement says nothing then: the step waits for the gate's word.
            (120, LANE, {'synchronous_mode_wait_for_vehicle_control_command': False}),
        ],
        ids=['pure pursuit', 'route', 'lane, on a bridge that does not wait'],
    )
    def test_every_frame_as_on_the_direct_path(self, rig, frames, agent, bridge):
        drive = rig.drive(parameters=settings(frames, agent=agent, bridge=bridge))
        ledger = ledger_of(drive, *WHOLE)
        check_clean(ledger, frames)
        check_same(ledger, drive.direct_ledger(frames))
        assert len({record['observation_sha256'] for record in ledger}) > frames // 2
        check_stages(ledger)

    def test_every_frame_as_on_the_direct_path_in_one_process(self, rig):
        """So that it is also the drive of four processes, action by action."""
        drive = rig.drive(start=[BRIDGE], parameters=settings(80, agent=LANE))
        drive.start_composed()
        ledger = ledger_of(drive, *WHOLE)
        check_clean(ledger, 80)
        check_same(ledger, drive.direct_ledger(80))

    @pytest.mark.parametrize('seed', [0, 1])
    def test_any_start_order(self, rig, seed):
        order = random.Random(seed).sample(NODES, len(NODES))
        large = {'start_paused': bool(seed % 2), 'camera_width': 800, 'camera_height': 600}
        drive = rig.drive(start=order, parameters=settings(40, bridge=large))
        check_clean(ledger_of(drive), 40)


def direct_ledger_of_two(frames):
    """Ledger of the same drive without ROS, vehicle by vehicle."""
    world = make_simulator(SimBridgeParams(**TWO_VEHICLES))
    halves = []
    for car, driver in zip(world.cars, DRIVERS.values(), strict=True):
        loaded = make_driver(DriverParams(**driver))
        agent = Agent(loaded.driver, loaded.spec)
        if loaded.needs_route:
            agent.set_route(route_from_path(path_message(car)))
        halves.append((car, agent, TwistConverter(TwistConvention.VELOCITY)))
    rows, controls = [], [car.control for car in world.cars]
    for _ in range(frames):
        world.tick(*controls)
        rows.append([respond(*two, frame_of(world, car)) for car, *two in halves])
        controls = [step.control for step in rows[-1]]
    records = map(ledger_records, zip(*rows, strict=True), DRIVERS)
    return list(chain.from_iterable(records))


def test_two_vehicles_every_frame_as_on_the_direct_path(rig):
    """One bridge, one synchronizer: every frame waits for both and has the command of both."""
    frames, path = 100, rig.folder / 'ledger.jsonl'
    rig.start_node(BRIDGE, TWO_VEHICLES | {'start_paused': True, 'command_wait_s': WAIT_S})
    patient = {**PATIENT, 'deadline_s': 0.8 * WAIT_S, 'bridge_wait_s': WAIT_S}
    for role, driver in DRIVERS.items():
        rig.start_node(GATE, patient | {'role_name': role}, role)
        rig.start_node(AGENT, driver | {'role_name': role}, role)
    limits = {'real_time_factor': 0.0, 'max_frames': frames, 'ledger_path': str(path)}
    limits |= {'command_timeout_s': 1.2 * WAIT_S, 'step_timeout_s': 1.2 * WAIT_S}
    node = rig.start_node(SYNCHRONIZER, limits | {'role_names': list(DRIVERS)})
    rig.wait_for(lambda: node.process.poll() is not None, 'the end')
    rig.p0()
    assert node.process.returncode == 0
    ledger, direct = audited(path, *WHOLE).records, direct_ledger_of_two(frames)
    assert check_ledger(ledger) == []
    assert len(ledger) == 2 * frames
    for role in DRIVERS:
        mine, expected = (
            [r for r in records if r['role_name'] == role] for records in (ledger, direct)
        )
        check_clean(mine, frames)
        check_same(mine, expected)
        check_stages(mine)


class TestInterference:
    def test_command_before_its_frame_is_complete_is_detected(self, rig):
        """The bridge books it, and no longer waits for the frame it was meant for."""
        node, seen = rig.watcher.node, []
        rogue = node.create_publisher(CarlaEgoVehicleControl, topics.control(ROLE), RELIABLE)

        def answer_early(msg):
            seen.append(msg.clock)
            if len(seen) in {20, 30, 40}:
                command = CarlaEgoVehicleControl(brake=0.125)
                command.header.stamp = msg.clock
                rogue.publish(command)

        node.create_subscription(Clock, '/clock', answer_early, RELIABLE)
        counts = counts_of(
            ledger_of(rig.drive(parameters=settings(50, real_time_factor=1.0)), 'file', 'chain')
        )
        assert 1 <= counts.duplicate <= 3
        assert counts.outcomes['ok'] >= 47

    def test_bursts_from_outside_are_survived(self, rig):
        node, seen = rig.watcher.node, []
        rogue = node.create_publisher(CarlaControl, topics.CONTROL, RELIABLE)

        def burst(msg):
            seen.append(msg)
            if len(seen) in {10, 20, 30}:
                for command in (CarlaControl.PAUSE, *[CarlaControl.STEP_ONCE] * 3):
                    rogue.publish(CarlaControl(command=command))
            if len(seen) in {40, 41}:
                rogue.publish(CarlaControl(command=CarlaControl.PAUSE))

        node.create_subscription(Odometry, topics.odometry(ROLE), burst, RELIABLE)
        ledger = ledger_of(rig.drive(parameters=settings(80)), 'file', 'chain')
        frames = [record['frame'] for record in ledger]
        assert frames == list(range(frames[0], frames[0] + len(frames)))  # no gap, no repeat
        assert counts_of(ledger).outcomes['ok'] >= 70
        assert counts_of(ledger).duplicate == 0


def test_interrupted_while_waiting_for_each_other(rig):
    """The bridge, paused, has another vehicle than the rest is waiting for."""
    drive = rig.drive(parameters={BRIDGE: {'role_names': ['somebody_else']}})
    names = set(NODE_NAMES.values())
    rig.wait_for(lambda: names <= {d.what.name for d in rig.watcher.diagnostics}, 'all up')
    for node in drive.nodes.values():
        rig.signal(node, signal.SIGINT, 0)
    deadline_s = time.monotonic() + 3.0 * rig.patience
    for node in drive.nodes.values():
        status = node.process.wait(max(deadline_s - time.monotonic(), 0.01))
        assert status == 0, (node.name, node.last_output(20))


class TestDemo:
    @pytest.fixture
    def demo(self, program, tmp_path):
        """Return a function that starts the demo."""
        return lambda *words: program('td3_agent', 'demo', '--out', tmp_path / 'out', *words)

    def test_results(self, demo, tmp_path):
        program = demo('--duration', '5', '--real-time-factor', '0')
        out = tmp_path / 'out'
        program.wait_until((out / 'ledger.jsonl').exists, 'it was driving')
        mapped = set().union(*(shared_memory(each.pid) for each in program.alive()))
        segments = {path for path in mapped if '_port' not in path.name}
        assert segments or os.environ.get('RMW_IMPLEMENTATION', '').endswith('cyclonedds_cpp')
        status, output, errors = program.end()
        assert status == 0, errors
        assert program.alive() == []
        assert not any(segment.exists() for segment in segments)
        summary = json.loads((out / 'summary.json').read_text('utf-8'))
        assert (summary['frames'], summary['violations']) == (100, 0)
        assert set(summary['exit_statuses'].values()) == {0}
        assert summary['outcomes'] == {'ok': 100}
        assert summary['findings'] == []
        assert summary['distance_m'] > 5.0
        check_clean(list(read_ledger(out / 'ledger.jsonl')), 100)
        for name in ('trajectory.png', 'camera.png'):
            picture = (out / name).read_bytes()
            assert picture.startswith(b'\x89PNG')
            assert len(picture) > 5000
        assert list(summary['stages_ms']) == [*STAGES, END_TO_END]
        for text in ('violations', 'command_rate_hz', 'end_to_end', 'results in'):
            assert text in output

    def test_interrupted_while_driving(self, demo, tmp_path):
        program = demo('--duration', '600')
        ledger = tmp_path / 'out' / 'ledger.jsonl'
        program.wait_until(lambda: ledger.exists() and ledger.stat().st_size > 1000, 'driving')
        nodes = [each for each in program.alive() if each.pid != program.process.pid]
        domains = [each.environ()['ROS_DOMAIN_ID'] for each in nodes]
        status, output, errors = program.end(signal.SIGINT)
        assert status == 130, errors
        assert program.alive() == []
        assert 'interrupted' in output + errors
        assert re.findall(r'driving in ROS domain (\d+);', output + errors) * len(NODES) == domains

    def test_interrupted_while_starting(self, demo):
        program = demo('--duration', '600')
        program.wait_until(lambda: len(program.alive()) > 1, 'it had a child')
        status, _, errors = program.end(signal.SIGTERM)
        assert status == 130, errors
        assert program.alive() == []

    def test_bad_map_is_one_sentence(self, demo):
        status, _, errors = demo('--map', 'nowhere.xodr').end()
        assert status == 2
        assert errors.startswith('td3_agent demo: ')
        assert 'nowhere.xodr' in errors
        assert Counter(errors)['\n'] == 1
