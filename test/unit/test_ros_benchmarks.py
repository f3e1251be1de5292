# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the ROS path: how they compare, and what must hold."""

import argparse
import math
import os
from pathlib import Path
import signal
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('carla_msgs')
pytest.importorskip('cv2')
pytest.importorskip('torch')
pytest.importorskip('tqdm')

from benchmarks import command, frame_profile, image_in, latency, lockstep, rate, scaling, startup
from benchmarks.frame_sender import Answer
from benchmarks.harness import processor_s
from td3_agent.processes import busy_processes

DOCKER = str(Path(__file__).parents[1] / 'standins' / 'docker')


def missed(module, report):
    """The figures that miss their limits."""
    return [limit.what for limit in module.limits(report) if limit.missed()]


class TestCommand:
    def report(self, call_ns=80_000, process_ms=800.0, lost=0, processes_lost=0):
        rows = [{'whole_ms': process_ms * k, 'received_ms': process_ms * k / 2} for k in (1, 2, 0)]
        for row in rows[:processes_lost]:
            del row['received_ms']
        native = {
            'call_ns': [call_ns] * 100,
            'processor_ns': [call_ns // 2] * 100,
            'received_ns': [4 * call_ns] * (100 - lost),
        }
        return command.report_of({command.PYTHON: rows}, native)

    def test_ratios_are_of_medians(self):
        report = self.report()
        assert report['ratio'] == pytest.approx(800.0 / 0.08)
        ratios = report['ratios'][command.PYTHON]
        assert ratios == pytest.approx({'whole': 10_000.0, 'received': 1250.0})
        assert report['processes'][command.PYTHON]['whole']['max_ms'] == 1600.0
        assert missed(command, report) == []

    def test_lost_command_of_a_process_is_counted(self):
        report = self.report(processes_lost=1)
        assert report['lost'] == {command.PYTHON: 1}
        once = report['processes'][command.PYTHON]
        assert (once['whole']['p50_ms'], once['received']['p50_ms']) == (800.0, 400.0)
        with pytest.raises(ValueError, match='no command of python process has arrived, 3 sent'):
            self.report(processes_lost=3)

    def test_ros2_is_measured_where_it_exists(self):
        assert list(command.commands_of(None)) == [command.PYTHON]
        kinds = command.commands_of('/opt/ros/bin/ros2')
        assert kinds[command.ROS2][:4] == ['/opt/ros/bin/ros2', 'topic', 'pub', '--once']

    def test_docker_exec_is_measured_where_a_container_is_named(self):
        args = argparse.Namespace(docker_exec=None, docker=DOCKER, setup_file=[])
        assert command.docker_command(args, {}) == {}
        args.docker_exec = 'ros2-bridge'
        words = command.docker_command(args, {'ROS_DOMAIN_ID': '7', 'HOME': '/'})[command.DOCKER]
        start = [DOCKER, 'exec', '-e', 'ROS_DOMAIN_ID=7', 'ros2-bridge', 'bash', '-c']
        assert words[:-1] == start
        assert 'ros2 topic pub --once /bench/once geometry_msgs/msg/TwistStamped' in words[-1]
        args.docker = 'no_such_docker'
        with pytest.raises(ValueError, match="docker must be an executable, got 'no_such_docker'"):
            command.docker_command(args, {})

    @pytest.mark.parametrize(
        ('program', 'said'),
        [
            ('import sys; sys.exit("no receiver")', 'ended with 1: no receiver'),
            ('import time; time.sleep(60)', 'found no subscription to /bench/once within 0.1 s'),
            ('import sys; sys.exit(124)', 'a container must share network and IPC'),
        ],
    )
    def test_process_that_fails_is_named(self, program, said, ros, monkeypatch):
        monkeypatch.setattr(command, 'PATIENCE_S', 0.1)
        if 'sleep' in program:
            monkeypatch.setattr(command, 'EXEC_MARGIN_S', 0.1)
        observer = argparse.Namespace(node=ros.peer, spin_once=time.sleep)
        with pytest.raises(ValueError, match=said):
            command.Receiver(observer).time_process([sys.executable, '-c', program])


class TestStartup:
    def report(self, resident_mb=250.0, first_s=1.0):
        times = {'agent': [first_s, 0.8, 0.9, 0.7], 'agent without network': [0.5, 0.3]}
        times['bare lifecycle node'] = [0.25, 0.2]
        starts = {case: [startup.Start(t, t / 2) for t in row] for case, row in times.items()}
        report = startup.report_of(starts)
        used_mb = {'td3_agent_node': resident_mb, 'gate_node': 80.0, 'synchronizer_node': 80.0}
        memory = {node: {'resident_mb': used} for node, used in used_mb.items()}
        return report | {'memory': memory}

    def test_first_is_told_apart(self):
        report = self.report()
        agent = {'first_s': 1.0, 'again_s': 0.8, 'slowest_again_s': 0.9}
        assert report['starts']['agent'] == agent | {'again_processor_s': 0.4}
        ratios = (report['ratio'], report['ratio_no_network'], report['ratio_first'])
        assert ratios == pytest.approx((4.0, 1.5, 1.25))
        assert missed(startup, report) == []
        assert len(missed(startup, self.report(resident_mb=301.0, first_s=1.6))) == 2

    def test_memory_and_processor_time_are_those_of_the_system(self):
        used = startup.memory_of(os.getpid())
        assert 1.0 < used['resident_mb'] <= used['peak_mb']
        before_s = processor_s(os.getpid())
        while processor_s(os.getpid()) == before_s:
            sum(range(10_000))
        assert 0.0 < before_s < processor_s(os.getpid()) < before_s + 1.0


class TestRate:
    def test_bare_timer_keeps_absolute_deadlines(self):
        """However late one waking is, as many deadlines are met as have passed."""
        woken_ns = rate.wake(0.25)
        assert len(woken_ns) == 4
        assert woken_ns[-1] > woken_ns[0]

    def test_busy_processes_end_with_the_block(self):
        with busy_processes(2) as started:
            assert [process.poll() for process in started] == [None, None]
        assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def blocks(*rows, linear_x=0.0, angular_z=0.0):
    """Answers with these latencies [ms], block by block."""
    return [
        [None if ms is None else Answer(0, ms * 1e6, linear_x, angular_z) for ms in row]
        for row in rows
    ]


class TestLatency:
    def test_ratio_is_of_neighbours_and_percentiles_of_all_frames(self):
        """The machine slows down by half after the first block; the ratio does not."""
        ours = blocks([1.0, 2.0, 9.0], [4.0] * 3, [4.0] * 3)
        found = latency.figures_of(ours, blocks([6.0] * 3, [12.0] * 3, [12.0] * 3))
        assert found['ratio'] == 3.0
        assert (found['p50_ms'], found['plain_p50_ms']) == (4.0, 12.0)

    def test_lost_frame_counts_as_long_as_it_was_waited_for(self):
        found = latency.figures_of(blocks([1.0, 1.0, 1.0]), blocks([1.0, None, None]))
        assert (found['lost'], found['plain_lost'], found['difference']) == (0, 2, 0.0)
        assert found['plain_p50_ms'] == found['ratio'] == latency.LOST_S * 1e3

    def test_difference_is_a_share_of_the_range(self):
        """Shares 0.1 (yaw rate, -1 to 1), 0.2 (speed, 0 to 8.33) and 0; the lost one has none."""
        ours = [[Answer(0, 1, 8.33, 0.1), None], [Answer(0, 1, 5.0, 0.0)] * 2]
        plain = [
            [Answer(0, 1, 8.33, -0.1), Answer(0, 1, 0.0, 0.0)],
            [Answer(0, 1, 6.666, 0.0), Answer(0, 1, 5.0, 0.0)],
        ]
        assert math.isclose(latency.difference(ours, plain), 0.1)


def test_way_back_of_an_image_does_not_count():
    """Settings take 4, 2 and 1 ms until the pixels are there, whenever the answer is."""
    taken = {'plain': 4e6, 'profile': 2e6, 'profile + memory': 1e6}
    found = image_in.figures_of(
        {name: [[Answer(7, 10**9, 7 + ns, 0.0), None]] for name, ns in taken.items()}
    )
    assert (found['ratio'], found['ratio_profile'], found['ratio_memory']) == (4.0, 2.0, 2.0)
    assert found['latency']['plain'] == {'p50_ms': 4.0, 'p99_ms': 4.0, 'lost': 1}


# ---- lockstep, and what it costs ---------------------------------------------------------------


def records(count, period_ms, roles=('ego_vehicle',)):
    return [
        {
            'outcome': 'ok',
            'commands': 1,
            'sent': None,
            'applied': None,
            'role_name': role,
            'frame_closed_ns': round(i * period_ms * 1e6),
            'stages_ns': {'tick': 1_000_000, 'gate': 3_000_000},
        }
        for i in range(count)
        for role in roles
    ]


class TestLockstep:
    def test_lap_counts_periods_and_processor_time(self):
        found = lockstep.lap(records(101, 4.0), {'bridge': 2.0}, {'bridge': 2.202})
        assert found.frames_per_s == pytest.approx(250.0)
        assert found.cpu_ms == {'bridge': pytest.approx(2.0)}
        assert found.stages_ms['end_to_end'] == {'p50': 4.0, 'p99': 4.0}
        assert (found.violations, found.not_ok) == (0, 0)

    def test_frames_of_two_vehicles_are_counted_once(self):
        """Both records of a frame are closed at the same instant; a frame takes 4 ms."""
        assert lockstep.roles(3) == ('ego_vehicle', 'car_2', 'car_3')
        two = records(51, 4.0, lockstep.roles(2))
        two[7]['outcome'] = 'stopped_no_command'
        found = lockstep.lap(two, {'td3_agent_node': 1.0}, {'td3_agent_node': 1.102})
        assert found.frames_per_s == pytest.approx(250.0)
        assert found.cpu_ms == {'td3_agent_node': pytest.approx(2.0)}
        assert (found.violations, found.not_ok) == (0, 1)

    def test_cars_of_one_world_are_driven_together_without_ros(self, monkeypatch):
        pytest.importorskip('carla')
        monkeypatch.setattr(lockstep, 'WARM_UP_FRAMES', 1)
        config = lockstep.SimulatorConfig(map='winding', vehicles=2)
        first, second = (next(steps) for steps in [lockstep.steps_of(config)] * 2)
        assert [step.frame.number for step in second] == [first[0].frame.number + 1] * 2
        assert [step.frame.applied for step in second] == [step.control for step in first]
        assert lockstep.drive_directly(2, 84, 84, vehicles=2) > 0.0

    def test_function_in_c_counts_for_the_part_that_called_it(self):
        def caller(path):
            return path, 1, 'call'

        publish = '~', 0, '<method rclpy._rclpy_pybind11.publish>'
        entries = {
            caller('/x/td3_agent/sim/ground.py'): (1, 1, 0.5, 2.5, {}),
            caller('/x/std_msgs/msg/_header.py'): (1, 1, 0.25, 0.25, {}),
            ('~', 0, '<warpAffine>'): (
                2,
                2,
                3.0,
                3.0,
                {
                    caller('/x/td3_agent/sim/ground.py'): (1, 1, 2.0, 2.0),
                    caller('/x/json/encoder.py'): (1, 1, 1.0, 1.0),
                },
            ),
            publish: (1, 1, 4.0, 4.0, {caller('/x/td3_agent/nodes/a.py'): (1, 1, 4.0, 4.0)}),
        }
        found = frame_profile.parts_us(SimpleNamespace(stats=entries), 1000)
        used = {part: took_us for part, took_us in found.items() if took_us}
        assert used == {'middleware': 4e3, 'messages': 250.0, 'world': 2500.0, 'the rest': 1e3}

    def test_case_is_the_median_of_its_turns(self):
        laps = [lockstep.Lap(r, {'tick': {'p50': r}}, {}, 1) for r in (100.0, 300.0, 200.0)]
        found = lockstep.case(laps, [1000.0, 1000.0, 400.0])
        assert (found['frames_per_s'], found['times_real_time'], found['ratio']) == (200, 10, 0.3)
        assert found['stages_ms'] == {'tick': {'p50': 200.0}}
        assert found['violations'] == 3
        cases = {'events': found, 'composed': {**found, 'frames_per_s': 400.0}}
        rate, violations = 'frames/s of the best executor', 'violations of the lockstep'
        assert missed(lockstep, {'cases': cases}) == [rate, violations]


class TestScaling:
    def drive(self, frames_per_s, end_to_end_ms=5.0, violations=0):
        whole = {'p50': end_to_end_ms, 'p99': 2.0 * end_to_end_ms}
        return lockstep.Lap(frames_per_s, {'end_to_end': whole}, {'bridge': 1.0}, violations)

    def test_costs_are_the_slopes(self):
        """A vehicle costs 4 and 1 ms, a megapixel 20 and 5 ms."""

        def rate_of(case, fixed_ms, vehicle_ms, megapixel_ms):
            seen = min(case.megapixels, 0.0192) if case.width == 160 else case.megapixels
            return 1e3 / (fixed_ms + vehicle_ms * case.vehicles + megapixel_ms * seen)

        report = scaling.report_of(
            {
                case: scaling.figures(
                    case,
                    [self.drive(rate_of(case, 2.0, 4.0, 20.0))],
                    [rate_of(case, 0.5, 1.0, 5.0)],
                )
                for case in scaling.CASES
            }
        )
        vehicle, megapixel = report['ms_per_vehicle'], report['ms_per_megapixel']
        assert (vehicle['ros']['each'], vehicle['direct']['each']) == pytest.approx((4.0, 1.0))
        assert (megapixel['ros']['each'], megapixel['direct']['each']) == pytest.approx((20, 5))
        assert megapixel['ros']['base'] == pytest.approx(6.0)
        assert missed(scaling, report) == []

    def test_figures_are_medians_of_turns(self):
        turns = [self.drive(100.0, 9.0, 1), self.drive(300.0, 3.0), self.drive(200.0, 4.0, 1)]
        found = scaling.figures(scaling.Case(2, 84, 84), turns, [1000.0, 600.0, 500.0])
        assert found['ms_per_frame'] == pytest.approx({'ros': 5.0, 'direct': 1e3 / 600.0})
        assert found['end_to_end_ms'] == {'p50': 4.0, 'p99': 8.0}
        assert found['ratio'] == pytest.approx(0.4)
        assert (found['vehicles'], found['width'], found['violations']) == (2, 84, 2)
