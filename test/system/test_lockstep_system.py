# SPDX-License-Identifier: Apache-2.0
"""The whole loop in processes of its own: nothing lost, nothing doubled, whatever happens."""

from collections import Counter
from itertools import chain, islice
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import time
import uuid

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl, CarlaStatus
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import pytest
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.gate import TwistConverter
from td3_agent.driving.ledger import (
    UNWRITTEN_FRAMES,
    LogCounts,
    check_ledger,
    read_findings,
    read_ledger,
)
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.driving.loop import ledger_records, respond
from td3_agent.driving.stages import END_TO_END, STAGES, end_to_end_ns
from td3_agent.evaluation.direct_episodes import direct_drive
from td3_agent.evaluation.ledger_command import agreement, first_difference
from td3_agent.nodes import topics
from td3_agent.nodes.bridge_publisher import path_message
from td3_agent.nodes.conversions import facts_from_report, route_from_path, stamp_ns
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.nodes.runtime import REPORTS
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_world
from td3_agent.processes import ProcessGroup, ros_environment
from td3_agent.sim.embedded import frame_of

pytestmark = pytest.mark.system

ROLE = 'ego_vehicle'
BRIDGE, GATE = 'sim_bridge_node', 'twist_to_control_node'
AGENT, SYNCHRONIZER = 'td3_agent_node', 'synchronizer_node'
ALL = (BRIDGE, GATE, AGENT, SYNCHRONIZER)
PATIENCE_S = 90.0


def nightly(*values):
    """Return a parameter set for "make test-all" alone."""
    return pytest.param(*values, marks=pytest.mark.nightly)


class Run:
    """Processes in the test's own domain, and what can be heard of them."""

    def __init__(self, ros, group, folder):
        self.ros = ros
        self.group = group
        self.ledger_path = folder / 'ledger.jsonl'
        self.parameters = {
            BRIDGE: {'spawn_index': 0, 'start_paused': True},
            GATE: {
                'deadline_s': 0.9,
                'silence_s': 60.0,
            },  # a busy machine is not what is tested here
            AGENT: {'driver': 'pure_pursuit'},
            SYNCHRONIZER: {
                'real_time_factor': 0.0,
                'ledger_path': str(self.ledger_path),
                'pause_timeout_s': 1.1,
            },
        }
        self.gate_reports = ros.listen(DiagnosticArray, topics.gate_report(ROLE), REPORTS)
        self.commands = ros.listen(CarlaEgoVehicleControl, topics.control(ROLE))

    def start(self, name, group=None, **parameters):
        return (group or self.group).start(name, self.parameters[name] | parameters)

    def start_all(self, order=ALL):
        return {name: self.start(name) for name in order}

    def start_around(self, agent):
        """Start bridge and gate, and the synchronizer once the test's own agent has met them."""
        nodes = {name: self.start(name) for name in (BRIDGE, GATE)}
        self.spin_until(agent.is_matched, 'the agent to be matched')
        return nodes | {SYNCHRONIZER: self.start(SYNCHRONIZER)}

    def spin_until(self, condition, what):
        """Spin until ``condition()`` holds, unless a process breaks first."""
        self.ros.spin_until(lambda: self._broken() or condition(), what, deadline_s=PATIENCE_S)
        assert not self._broken(), self._broken()

    def _broken(self):
        dead = self.group.ended_early()
        if dead and dead.name == SYNCHRONIZER and dead.process.returncode == 1:
            return None  # the drive is over; finish() looks whether it may say so
        return dead and f'{dead.name}: {dead.process.returncode}: {dead.last_words(20)}'

    def outcomes(self):
        return [facts_from_report(msg)['outcome'] for msg in self.gate_reports]

    def drive(self, frames, order=ALL):
        """Start everything, drive so many frames, end everything; return the ledger."""
        self.parameters[SYNCHRONIZER]['max_frames'] = frames
        return self.finish(self.start_all(order)[SYNCHRONIZER])

    def finish(self, synchronizer):
        """Wait for the end of the drive, end everything, and return the ledger."""
        self.spin_until(lambda: synchronizer.process.poll() is not None, 'the end')
        statuses = self.group.end()
        ledger = list(read_ledger(self.ledger_path))
        bad = [finding.text for finding in read_findings(self.ledger_path) if finding.is_error]
        expected = dict.fromkeys(statuses, 0)
        expected[SYNCHRONIZER] = int(bool(bad or counts_of(ledger).violations))
        assert statuses == expected, bad
        return ledger

    def stop(self):
        """Ask the synchronizer to end."""
        client = self.ros.peer.create_client(Trigger, '/synchronizer/stop')
        self.spin_until(client.service_is_ready, 'the stop service')
        future = client.call_async(Trigger.Request())
        self.spin_until(future.done, 'the answer')


@pytest.fixture
def run(ros, tmp_path):
    with ProcessGroup(tmp_path, ros_environment(ros.domain_id)) as group:
        yield Run(ros, group, tmp_path)


def counts_of(ledger):
    counts = LogCounts()
    for record in ledger:
        counts.add(record)
    return counts


def check_stages(ledger):
    """Stages of three processes add up to what the synchronizer alone has seen."""
    for record in ledger:
        stages, whole_ns = record['stages_ns'], end_to_end_ns(record)
        assert list(stages) == list(STAGES)
        assert min(stages.values()) >= 0, record['frame']
        assert sum(stages.values()) == pytest.approx(whole_ns, rel=0.05), record['frame']


def check_clean(ledger, frames):
    """Every frame answered by the agent, none lost, none doubled."""
    assert check_ledger(ledger) == []
    assert [record['frame'] for record in ledger] == list(
        range(ledger[0]['frame'], ledger[0]['frame'] + frames)
    )
    assert counts_of(ledger).outcomes == {'ok': frames}


def direct_ledger(frames, road, driver):
    """Ledger of the same drive without ROS."""
    world = make_world(SimBridgeParams(spawn_index=0, map=road))
    steps = direct_drive(world, make_driver(DriverParams(**driver)))
    return list(ledger_records(islice(steps, frames)))


class TestLockstep:
    @pytest.mark.parametrize(
        ('frames', 'road', 'driver'),
        [
            (160, 'winding', {'driver': 'pure_pursuit'}),
            (120, 'winding', {'driver': 'td3', 'policy': 'lane'}),
            (120, 'town', {'driver': 'td3', 'policy': 'route'}),
        ],
    )
    def test_every_frame_as_on_the_direct_path(self, run, frames, road, driver):
        run.parameters[AGENT] = driver
        run.parameters[BRIDGE]['map'] = road
        ledger = run.drive(frames)
        check_clean(ledger, frames)
        direct = direct_ledger(frames, road, driver)
        assert first_difference(ledger, direct) is None
        assert agreement(direct, ledger)['equal']
        assert len({record['observation_sha256'] for record in ledger}) > frames // 2
        check_stages(ledger)
        assert audit_ledger(run.ledger_path).holds

    def test_every_frame_where_the_bridge_does_not_wait(self, run):
        """Its acknowledgement says nothing then: the step waits for the gate's word."""
        run.parameters[AGENT] = {'driver': 'td3', 'policy': 'lane'}
        run.parameters[BRIDGE] |= {
            'map': 'winding',
            'synchronous_mode_wait_for_vehicle_control_command': False,
        }
        ledger = run.drive(120)
        check_clean(ledger, 120)
        assert counts_of(ledger).violations == 0
        direct = direct_ledger(120, 'winding', run.parameters[AGENT])
        assert agreement(direct, ledger)['equal']
        assert ledger[-1]['speed_mps'] > 5.0

    @pytest.mark.parametrize('seed', [0, 1, nightly(2), nightly(3)])
    def test_any_start_order(self, run, seed):
        order = random.Random(seed).sample(ALL, len(ALL))
        run.parameters[BRIDGE]['start_paused'] = bool(seed % 2)
        check_clean(run.drive(40, order), 40)

    def test_large_images(self, run):
        run.parameters[BRIDGE] |= {'camera_width': 800, 'camera_height': 600}
        check_clean(run.drive(60), 60)


class TestSeveralVehicles:
    ROLES = ('red', 'blue')
    PILOTS = ({'driver': 'td3', 'policy': 'lane'}, {'driver': 'pure_pursuit'})

    def direct(self, frames):
        """Ledger of the same drive without ROS, vehicle by vehicle."""
        params = SimBridgeParams(role_names=self.ROLES, spawn_index=0, map='winding')
        world = make_world(params)
        halves = []
        for car, driver in zip(world.cars, self.PILOTS, strict=True):
            equipment = make_driver(DriverParams(**driver))
            agent = Agent(equipment.driver, equipment.spec)
            if equipment.needs_route:
                agent.set_route(route_from_path(path_message(car)))
            halves.append((car, agent, TwistConverter(TwistConvention.VELOCITY)))
        rows, controls = [], [car.control for car in world.cars]
        for _ in range(frames):
            world.tick(*controls)
            rows.append([respond(*two, frame_of(world, car)) for car, *two in halves])
            controls = [step.control for step in rows[-1]]
        records = map(ledger_records, zip(*rows, strict=True), self.ROLES)
        return list(chain.from_iterable(records))

    def test_two_vehicles_every_frame_as_on_the_direct_path(self, run):
        """One bridge, one synchronizer: every frame waits for both and has the command of both."""
        frames, roles = 100, list(self.ROLES)
        run.start(BRIDGE, role_names=roles, map='winding')
        for role, driver in zip(roles, self.PILOTS, strict=True):
            run.group.start(GATE, run.parameters[GATE] | {'role_name': role}, role)
            run.group.start(AGENT, driver | {'role_name': role}, role)
        ledger = run.finish(run.start(SYNCHRONIZER, role_names=roles, max_frames=frames))
        direct = self.direct(frames)
        assert check_ledger(ledger) == []
        assert counts_of(ledger).violations == 0
        assert len(ledger) == 2 * frames
        for role in roles:
            mine, expected = (
                [r for r in records if r['role_name'] == role] for records in (ledger, direct)
            )
            check_clean(mine, frames)
            assert first_difference(mine, expected) is None
            assert agreement(expected, mine)['equal']
            check_stages(mine)
            assert mine[-1]['speed_mps'] > 3.0
        assert audit_ledger(run.ledger_path).holds

    def test_the_others_go_on_without_an_agent_that_was_killed(self, run):
        roles = list(self.ROLES)
        run.start(BRIDGE, role_names=roles, map='winding')
        for role in roles:
            run.group.start(GATE, run.parameters[GATE] | {'role_name': role}, role)
        agents = {
            role: run.group.start(AGENT, {'driver': 'pure_pursuit', 'role_name': role}, role)
            for role in roles
        }
        reports = {
            role: run.ros.listen(DiagnosticArray, topics.gate_report(role)) for role in roles
        }
        synchronizer = run.start(SYNCHRONIZER, role_names=roles)

        def outcomes(role):
            return [facts_from_report(msg)['outcome'] for msg in reports[role]]

        run.spin_until(lambda: len(outcomes('blue')) > 60, 'frames of both')
        agents['red'].process.kill()
        agents['red'].process.wait()
        run.group.nodes.remove(agents['red'])
        run.spin_until(lambda: outcomes('red')[-50:] == ['stopped_no_command'] * 50, 'braked')
        run.stop()
        ledger = run.finish(synchronizer)
        mine = {role: [r for r in ledger if r['role_name'] == role] for role in roles}
        assert {record['outcome'] for record in mine['blue']} == {'ok'}
        assert mine['blue'][-1]['speed_mps'] > 3.0
        assert mine['red'][-1]['speed_mps'] == pytest.approx(0.0, abs=0.1)
        assert counts_of(ledger).violations == 0


class FaultyAgent:
    """Stands in for the agent's process, and answers when the test wants it to."""

    def __init__(self, run, *, is_late=lambda _: False, on_clock=False):
        ros = run.ros
        self.late = []  # stamps answered after the gate's patience [ns]
        self.answered = 0
        self._is_late = is_late
        self._waiting = None
        self._twist_pub = ros.talk(TwistStamped, topics.twist_stamped(ROLE))
        ros.talk(DiagnosticArray, topics.agent_report(ROLE), REPORTS)  # the sign that we are there
        ros.listen(CarlaEgoVehicleControl, topics.control(ROLE), react=self._on_command)
        self._ros = ros
        self._topic = '/clock' if on_clock else topics.odometry(ROLE)
        if on_clock:
            ros.listen(Clock, self._topic, react=lambda msg: self._on_frame(msg.clock))
        else:
            ros.listen(Odometry, self._topic, react=lambda msg: self._on_frame(msg.header.stamp))

    def is_matched(self):
        """Whether frames reach us and answers leave us: before that the first would be lost."""
        readers = [s for s in self._ros.peer.subscriptions if s.topic_name == self._topic]
        return self._twist_pub.get_subscription_count() > 0 and all(
            self._ros.publisher_count(reader) > 0 for reader in readers
        )

    def _on_frame(self, stamp):
        self.answered += 1
        if self._is_late(self.answered):
            self._waiting = stamp
            self.late.append(stamp_ns(stamp))
        else:
            self._answer(stamp)

    def _on_command(self, msg):
        """The gate has answered without us: now we are late beyond doubt."""
        if self._waiting is not None and msg.header.stamp == self._waiting:
            self._answer(self._waiting)
            self._waiting = None

    def _answer(self, stamp):
        msg = TwistStamped()
        msg.header.stamp = stamp
        msg.twist.linear.x = 5.0
        self._twist_pub.publish(msg)


class TestTiming:
    def test_late_answers_become_brakes(self, run, diagnosed):
        agent = FaultyAgent(run, is_late=lambda n: n % 5 == 0)
        run.parameters[GATE]['deadline_s'] = 0.3
        run.parameters[SYNCHRONIZER]['max_frames'] = 30
        nodes = run.start_around(agent)
        run.spin_until(lambda: nodes[SYNCHRONIZER].process.poll() is not None, 'the end')
        run.spin_until(lambda: late_at(diagnosed) >= len(agent.late), 'all late ones counted')
        ledger = run.finish(nodes[SYNCHRONIZER])
        assert check_ledger(ledger) == []
        braked = [r for r in ledger if r['outcome'] == 'stopped_no_command']
        assert set(agent.late) <= {record['stamp_ns'] for record in braked}
        assert len(agent.late) == 6
        assert all(record['sent']['brake'] == 1.0 for record in braked)
        assert counts_of(ledger).outcomes['ok'] == 30 - len(braked)
        assert len(braked) < 20  # the others were in time, unless the machine was not

    def test_early_answers_wait_for_their_frame(self, run):
        agent = FaultyAgent(run, on_clock=True)
        run.parameters[SYNCHRONIZER]['max_frames'] = 60
        nodes = run.start_around(agent)
        check_clean(run.finish(nodes[SYNCHRONIZER]), 60)
        assert agent.answered == 60


def late_at(diagnosed):
    """Late commands that the gate has counted, as far as it has said."""
    status = diagnosed('twist_to_control')
    return int(next((p.value for p in status.values if p.key == 'late'), 0)) if status else 0


class TestInterference:
    def test_two_commands_per_frame_are_detected(self, run):
        rogue = run.ros.talk(CarlaEgoVehicleControl, topics.control(ROLE))
        doubled = set()

        def double(msg):
            stamp = stamp_ns(msg.header.stamp)
            if stamp not in doubled and len(run.commands) > 20:
                doubled.add(stamp)
                rogue.publish(msg)

        run.ros.listen(CarlaEgoVehicleControl, topics.control(ROLE), react=double)
        run.parameters[SYNCHRONIZER]['real_time_factor'] = 1.0  # the rogue must keep up
        ledger = run.drive(50)
        assert counts_of(ledger).doubled >= 5
        assert check_ledger(ledger)
        assert all(record['commands'] == 1 for record in ledger[:18])

    def test_command_before_its_frame_is_complete_is_detected(self, run):
        """Race R1: the bridge books it, and no longer waits for the frame it was meant for."""
        rogue = run.ros.talk(CarlaEgoVehicleControl, topics.control(ROLE))
        seen = []

        def answer_early(msg):
            seen.append(msg.clock)
            if len(seen) in {20, 30, 40}:
                command = CarlaEgoVehicleControl(brake=0.125)
                command.header.stamp = msg.clock
                rogue.publish(command)

        run.ros.listen(Clock, '/clock', react=answer_early)
        run.parameters[SYNCHRONIZER]['real_time_factor'] = 1.0
        ledger = run.drive(50)
        counts = counts_of(ledger)
        assert 1 <= counts.doubled <= 3
        assert counts.outcomes['ok'] >= 47

    def test_bursts_from_outside_are_survived(self, run):
        rogue = run.ros.talk(CarlaControl, topics.CONTROL)
        heard = []

        def burst(msg):
            heard.append(msg)
            if len(heard) in {10, 20, 30}:
                for command in (CarlaControl.PAUSE, *[CarlaControl.STEP_ONCE] * 3):
                    rogue.publish(CarlaControl(command=command))
            if len(heard) in {40, 41}:
                rogue.publish(CarlaControl(command=CarlaControl.PAUSE))

        run.ros.listen(Odometry, topics.odometry(ROLE), react=burst)
        ledger = run.drive(80)
        frames = [record['frame'] for record in ledger]
        assert frames == list(range(frames[0], frames[0] + len(frames)))  # no gap, no repeat
        outcomes = counts_of(ledger).outcomes
        assert outcomes['ok'] >= 70
        assert counts_of(ledger).doubled == 0

    def test_killed_agent_means_brakes_until_it_is_back(self, run, tmp_path):
        nodes = run.start_all()
        run.spin_until(lambda: run.outcomes().count('ok') >= 30, 'driving')
        run.group.nodes.remove(nodes[AGENT])
        nodes[AGENT].process.kill()
        nodes[AGENT].process.wait()
        # One at least: within a second the sign of life is missed, and stepping pauses.
        run.spin_until(lambda: 'stopped_no_command' in run.outcomes(), 'a brake')
        run.spin_until(lambda: run.commands[-1].brake == 1.0, 'its command')
        self.restart(run, tmp_path, nodes)

    def test_ended_agent_pauses_the_stepping_until_it_is_back(self, run, tmp_path, diagnosed):
        nodes = run.start_all()
        run.spin_until(lambda: run.outcomes().count('ok') >= 30, 'driving')
        nodes[AGENT].process.terminate()
        assert nodes[AGENT].process.wait(PATIENCE_S) == 0
        run.spin_until(
            lambda: (
                (said := diagnosed('synchronizer'))
                and said.message.startswith('no step while')
                and said.message.endswith(': agent of ego_vehicle')
            ),
            'the synchronizer to notice',
        )
        run.spin_until(lambda: run.commands[-1].brake == 1.0, 'the brake')
        run.spin_until(lambda: run.outcomes()[-1] == 'stopped_no_command', 'its report')
        answered, said = len(run.commands), []
        run.ros.listen(DiagnosticArray, '/diagnostics', react=said.append)
        run.spin_until(lambda: len(said) >= 4, 'a second or more')
        assert len(run.commands) == answered  # no step was taken in that time
        self.restart(run, tmp_path, nodes)

    @staticmethod
    def restart(run, tmp_path, nodes):
        """Start the agent again, drive on, and check the ledger of it all."""
        folder = tmp_path / 'again'
        folder.mkdir()
        good = run.outcomes().count('ok')
        with ProcessGroup(folder, ros_environment(run.ros.domain_id)) as again:
            run.start(AGENT, group=again)
            run.spin_until(lambda: run.outcomes().count('ok') >= good + 30, 'driving again')
            run.stop()
            ledger = run.finish(nodes[SYNCHRONIZER])
            assert again.end() == {AGENT: 0}
        assert check_ledger(ledger) == []
        assert set(counts_of(ledger).outcomes) == {'ok', 'stopped_no_command'}


class TestKilledWriter:
    @pytest.mark.parametrize('most_lost', [UNWRITTEN_FRAMES + 1, 25])
    def test_ledger_holds_all_but_the_newest_frames(self, run, most_lost):
        run.parameters[SYNCHRONIZER]['ledger_flush_frames'] = most_lost
        said = run.ros.listen(CarlaStatus, topics.STATUS)
        node = run.start_all()[SYNCHRONIZER]
        run.spin_until(lambda: run.outcomes().count('ok') >= 60, 'driving')
        run.group.nodes.remove(node)
        node.process.kill()
        run.spin_until(lambda: node.process.poll() is not None, 'its end')
        newest = max(msg.frame for msg in said)
        ledger = list(read_ledger(run.ledger_path))
        assert ledger[-1]['frame'] >= newest - most_lost
        audit = audit_ledger(run.ledger_path)
        assert audit.holds, audit.findings
        assert not audit.ended


class TestSignals:
    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_all_at_once_while_driving(self, run, number):
        nodes = run.start_all()
        run.spin_until(lambda: run.outcomes().count('ok') >= 20, 'driving')
        self.end(nodes, number)
        ledger = list(read_ledger(run.ledger_path))
        assert len(ledger) >= 19
        assert check_ledger(ledger) == []

    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_while_waiting_for_each_other(self, run, number, diagnosed):
        """The bridge, paused, has another vehicle than the rest is waiting for."""
        run.parameters[BRIDGE]['role_names'] = ['somebody_else']
        nodes = run.start_all()
        names = ('carla_ros_bridge', 'twist_to_control', 'td3_agent', 'synchronizer')
        run.spin_until(lambda: all(diagnosed(name) for name in names), 'all up')
        self.end(nodes, number)

    @staticmethod
    def end(nodes, number):
        """Signal all at once; every one must end well within three seconds."""
        for node in nodes.values():
            node.process.send_signal(number)
        deadline_s = time.monotonic() + 3.0
        for node in nodes.values():
            status = node.process.wait(max(deadline_s - time.monotonic(), 0.01))
            assert status == 0, (node.name, node.last_words(20))


class Program:
    """A td3_agent program, whose processes can be told from all others."""

    def __init__(self, *arguments):
        self.mark = f'TD3_AGENT_TEST={uuid.uuid4()}'
        name, value = self.mark.split('=')
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'td3_agent', *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **{name: value}),
        )

    def alive(self):
        """Ids of all its processes, its own included."""
        return [pid for pid in all_processes() if self.mark.encode() in environment_of(pid)]

    def wait_until(self, condition, what):
        """Wait until ``condition()`` holds while it runs."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, what
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f'ended before {what}: {self.process.stdout.read()}')

    def end(self):
        """Wait for its end; return status and output."""
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output.decode()


def all_processes():
    return [int(entry.name) for entry in Path('/proc').iterdir() if entry.name.isdigit()]


def environment_of(pid):
    """Environment of a process; that of one that has ended is empty."""
    try:
        return Path(f'/proc/{pid}/environ').read_bytes()
    except OSError:
        return b''


def domain_of(pid):
    """ROS domain that a process was started in."""
    return re.search(rb'(?:^|\0)ROS_DOMAIN_ID=(\d+)', environment_of(pid))[1].decode()


def shared_memory_of(pid):
    """Files of the Fast DDS segments that a process has mapped; ports are everybody's."""
    try:
        maps = Path(f'/proc/{pid}/maps').read_text(encoding='utf-8')
    except OSError:
        return set()
    return {Path(name) for name in re.findall(r'/dev/shm/fast(?:rtps|dds)_[0-9a-f]{16}\b', maps)}


@pytest.fixture
def demo(tmp_path):
    """Return a function that starts the demo; whatever is left of it is ended."""
    programs = []

    def start(*arguments):
        programs.append(Program('demo', '--out', str(tmp_path / 'out'), *arguments))
        return programs[-1]

    yield start
    for program in programs:
        for pid in program.alive():
            os.kill(pid, signal.SIGKILL)
        program.process.wait()
        program.process.stdout.close()


needs_proc = pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='needs /proc')


@needs_proc
class TestDemo:
    def test_results(self, demo, tmp_path):
        program = demo('--duration', '5', '--real-time-factor', '0')
        out = tmp_path / 'out'
        program.wait_until((out / 'ledger.jsonl').exists, 'it was driving')
        segments = set().union(*map(shared_memory_of, program.alive()))
        assert segments or os.environ.get('RMW_IMPLEMENTATION', '').endswith('cyclonedds_cpp')
        status, output = program.end()
        assert status == 0, output
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
        program.wait_until(
            lambda: ledger.exists() and ledger.stat().st_size > 1000, 'it was driving'
        )
        assert len(program.alive()) == 1 + len(ALL)
        domains = [domain_of(pid) for pid in program.alive() if pid != program.process.pid]
        program.process.send_signal(signal.SIGINT)
        status, output = program.end()
        assert status == 130, output
        assert program.alive() == []
        assert 'interrupted' in output
        assert re.findall(r'driving in ROS domain (\d+);', output) * len(ALL) == domains

    def test_interrupted_while_starting(self, demo):
        program = demo('--duration', '600')
        program.wait_until(lambda: len(program.alive()) > 1, 'it had a child')
        program.process.send_signal(signal.SIGTERM)
        status, output = program.end()
        assert status == 130, output
        assert program.alive() == []

    def test_bad_map_is_one_sentence(self, demo):
        program = demo('--map', 'nowhere.xodr')
        status, output = program.end()
        assert status == 2
        assert output.startswith('td3_agent demo: ')
        assert 'nowhere.xodr' in output
        assert Counter(output)['\n'] == 1
