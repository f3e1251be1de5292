# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the ROS path: what they refuse, how they compare, what they report as short."""

import argparse
import os
from pathlib import Path
import signal
import sys

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('carla_msgs')
pytest.importorskip('tqdm')

from td3_agent.__main__ import main
from td3_agent.bench import bare_timer, command, rate, startup
from td3_agent.bench.figures import PERIOD_NS, rate_figures
from td3_agent.bench.observer import BenchError
from td3_agent.bench.programs import Program, ProgramError, ProgramSilentError
from td3_agent.evaluation.processes import busy_processes, free_domain_id

ECHO = """
import json, sys
print('from the middleware', flush=True)
for line in sys.stdin:
    if line == 'end\\n':
        sys.exit(3)
    print(json.dumps([line.strip(), sys.argv[1:]]), flush=True)
"""


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (('command', '--processes', '0'), 'processes must be >= 1, got 0'),
        (('command', '--commands', '4'), 'commands must be >= processes = 5, got 4'),
        (('rate', '--duration', 'nan'), 'duration must be >= 1 [s], got nan'),
        (('rate', '--duration', 'inf'), 'duration must be >= 1 [s], got inf'),
        (('rate', '--load', '0'), 'load must be >= 1 [processes], got 0'),
        (('startup', '--turns', '1'), 'turns must be >= 2, a first one and another, got 1'),
        (('startup', '--frames', '0'), 'frames must be >= 1, got 0'),
    ],
)
def test_refusals_are_one_sentence(arguments, text, capsys):
    with pytest.raises(SystemExit) as end:
        main(['bench', *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err == f'td3_agent bench: {text}\n'


class TestProgram:
    @pytest.fixture
    def environment(self, tmp_path):
        (tmp_path / 'echoing.py').write_text(ECHO, 'utf-8')
        return {'PYTHONPATH': str(tmp_path)}

    def test_answers_and_ends_with_its_input(self, environment, capsys):
        with Program('echoing', 'loudly', environment=environment) as program:
            assert program.ask('hello', 30.0) == ['hello', ['loudly']]
            assert program.ask('again', 30.0) == ['again', ['loudly']]
            assert program.end() == 0
        assert capsys.readouterr().err == 'from the middleware\n'

    def test_silence_is_named(self, environment):
        with (
            Program('echoing', environment=environment) as program,
            pytest.raises(ProgramError, match=r'echoing must answer within 0\.01 s, and did not'),
        ):
            program.hear(0.01)

    def test_end_is_named(self, environment):
        with Program('echoing', environment=environment) as program:
            with pytest.raises(ProgramError, match='echoing has ended'):
                program.ask('end', 30.0)
            assert program.end() == 3


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
        report = command.report_of({command.PYTHON: rows}, native)
        return report | {'absent': [command.ROS2]}

    def test_ratios_are_of_medians(self):
        report = self.report()
        assert report['ratio'] == pytest.approx(800.0 / 0.08)
        ratios = report['ratios'][command.PYTHON]
        assert ratios == pytest.approx({'whole': 10_000.0, 'received': 1250.0})
        assert report['processes'][command.PYTHON]['whole']['max_ms'] == 1600.0

    def test_holds(self):
        assert command.shortfalls(self.report()) == []

    @pytest.mark.parametrize(
        ('changes', 'text'),
        [
            ({'process_ms': 80.0}, 'a process takes 1000 times as long, expected >= 2000'),
            (
                {'call_ns': 1_500_000, 'process_ms': 9000.0},
                'p99 of publish() is 1.500 ms, expected < 1 ms',
            ),
            ({'lost': 2}, '2 commands were lost, expected 0'),
        ],
    )
    def test_falls_short(self, changes, text):
        assert command.shortfalls(self.report(**changes)) == [text]

    def test_table_says_what_is_absent(self):
        lines = command.table(self.report()).splitlines()
        assert lines[1].split() == ['native', 'publish', 'publish()', *['0.080'] * 3, '1']
        assert lines[2].split() == ['native', 'publish', 'processor', *['0.040'] * 3]
        assert lines[4].split() == ['python', 'process', 'process', '800.0', '1600.0', '10000']
        assert 'ros2 topic pub: absent, not measured' in lines

    def test_lost_command_of_a_process_is_counted(self):
        report = self.report(processes_lost=1)
        assert report['lost'] == {command.PYTHON: 1}
        once = report['processes'][command.PYTHON]
        assert (once['whole']['p50_ms'], once['received']['p50_ms']) == (800.0, 400.0)
        assert once['received']['max_ms'] == 800.0
        last = 'python process: 3 processes, the commands of 1 lost'
        assert command.table(report).splitlines()[-1] == last
        with pytest.raises(ValueError, match='no command of python process has arrived, 3 sent'):
            self.report(processes_lost=3)

    @pytest.mark.parametrize(
        ('heard_ns', 'times'),
        [([1], {'whole_ms'}), ([1, 1 << 63], {'whole_ms', 'received_ms'})],
    )
    def test_command_given_up_does_not_count_for_the_next_process(self, heard_ns, times):
        class Receiver:
            def hear(self, patience_s):
                if not heard_ns:
                    raise ProgramSilentError(f'nothing within {patience_s} s')
                return {'received_ns': heard_ns.pop(0)}

        assert set(command.time_process(['true'], Receiver(), {}, '')) == times

    def test_ros2_is_measured_where_it_exists(self):
        assert list(command.commands_of(None)) == [command.PYTHON]
        kinds = command.commands_of('/opt/ros/bin/ros2')
        assert kinds[command.ROS2][:4] == ['/opt/ros/bin/ros2', 'topic', 'pub', '--once']

    def test_docker_exec_is_measured_where_a_container_is_named(self):
        docker = str(Path(__file__).parents[2] / 'standins' / 'docker')
        args = argparse.Namespace(docker_exec=None, docker=docker, setup_file=[])
        assert command.docker_command(args, {}) == {}
        args.docker_exec = 'ros2-bridge'
        words = command.docker_command(args, {'ROS_DOMAIN_ID': '7', 'HOME': '/'})[command.DOCKER]
        start = [docker, 'exec', '-e', 'ROS_DOMAIN_ID=7', 'ros2-bridge', 'bash', '-c']
        assert words[:-1] == start
        assert 'ros2 topic pub --once /bench/once geometry_msgs/msg/TwistStamped' in words[-1]

    def test_missing_docker_is_refused(self):
        args = argparse.Namespace(docker_exec='x', docker='no_such_docker', setup_file=None)
        with pytest.raises(ValueError, match="docker must be an executable, got 'no_such_docker'"):
            command.docker_command(args, {})

    def test_failed_process_is_named(self):
        program = [sys.executable, '-c', 'import sys; sys.exit("no receiver")']
        with pytest.raises(ValueError, match='ended with 1: no receiver'):
            command.time_process(program, None, {}, '')

    def test_container_that_does_not_reach_the_receiver_is_named(self, monkeypatch):
        monkeypatch.setattr(command, 'PATIENCE_S', 0.5)
        docker = str(Path(__file__).parents[2] / 'standins' / 'docker')
        args = argparse.Namespace(
            docker_exec='ros2-bridge', docker=docker, setup_file=['/dev/null']
        )
        environment = dict(os.environ, ROS_DOMAIN_ID=str(free_domain_id()))
        words = command.docker_command(args, environment)[command.DOCKER]
        text = r'nobody listens to /bench/once after 0.5 s, from container ros2-bridge'
        with pytest.raises(ValueError, match=text):
            command.time_process(words, None, environment, 'container ros2-bridge')

    def test_process_that_does_not_end_is_ended(self, monkeypatch):
        monkeypatch.setattr(command, 'PATIENCE_S', 0.1)
        monkeypatch.setattr(command, 'EXEC_MARGIN_S', 0.1)
        text = r'nobody listens to /bench/once after 0.1 s, from here'
        with pytest.raises(ValueError, match=text):
            command.time_process(['sleep', '60'], None, None, 'here')


class TestStartup:
    def report(self, resident_mb=372.0, first_s=2.0):
        times = {'agent': [first_s, 1.6, 1.8, 1.4], 'agent without network': [1.0, 0.6]}
        times['bare lifecycle node'] = [0.5, 0.4]
        starts = {case: [startup.Start(t, t / 2) for t in row] for case, row in times.items()}
        report = startup.report_of(starts)
        return report | {'memory': {'td3_agent_node': {'resident_mb': resident_mb}}}

    def test_first_is_told_apart(self):
        report = self.report()
        agent = {'first_s': 2.0, 'again_s': 1.6, 'slowest_again_s': 1.8}
        assert report['starts']['agent'] == agent | {'again_processor_s': 0.8}
        ratios = (report['ratio'], report['ratio_no_network'], report['ratio_first'])
        assert ratios == pytest.approx((4.0, 1.5, 1.25))
        assert startup.shortfalls(report) == []

    def test_falls_short(self):
        assert startup.shortfalls(self.report(resident_mb=451.0, first_s=3.2)) == [
            'the agent is active after 3.20 s (first start), expected <= 3 s',
            'the agent holds 451 MB, expected <= 450 MB resident',
        ]

    def test_table(self):
        lines = startup.table(self.report()).splitlines()
        assert lines[1].split() == ['agent', '2.00', '1.60', '1.80', '0.80']
        assert lines[-1].split() == ['td3_agent_node', '372', 'not', 'told']

    def test_proc(self):
        text = 'VmHWM:\t  2048 kB\nVmRSS:\t  1000 kB\n'
        assert startup.kib_of(text, 'VmRSS') == 1000
        with pytest.raises(BenchError, match='must tell Pss in kB'):
            startup.kib_of(text, 'Pss')
        assert pytest.approx(1.024) == 1000 / startup.KIB_PER_MB

    def test_processor_time_grows_with_work(self):
        before_s = startup.processor_s(os.getpid())
        assert before_s > 0.0
        while startup.processor_s(os.getpid()) == before_s:
            sum(range(10_000))
        assert before_s < startup.processor_s(os.getpid()) < before_s + 1.0
        with pytest.raises(BenchError, match='processor time is read from /proc'):
            startup.processor_s(-1)


class TestRate:
    def report(self, idle_ns=PERIOD_NS, loaded_ns=PERIOD_NS, jitter_ns=0):
        runs = {}
        for name, period_ns in ((rate.IDLE, idle_ns), (rate.LOADED, loaded_ns)):
            times = [k * period_ns + jitter_ns * (k % 2) for k in range(101)]
            runs[name] = {what: rate_figures(times) for what in rate.ROWS} | {'repeated': 7}
        ratios = {'ratio': 1.0, 'ratio_sigma': {rate.IDLE: 1.25, rate.LOADED: 1.5}}
        return ratios | {'duration_s': 5.0, 'busy_processes': 2, 'runs': runs}

    def test_holds(self):
        assert rate.shortfalls(self.report(jitter_ns=900_000)) == []

    @pytest.mark.parametrize(
        ('changes', 'text'),
        [
            ({'idle_ns': 50_100_000}, 'idle rate is 19.9601 Hz, expected 20.00 +- 0.02 Hz'),
            (
                {'jitter_ns': 1_100_000},
                'sigma of the idle period is 1.100 ms, expected <= 1 ms',
            ),
            ({'loaded_ns': 51_000_000}, 'loaded rate is 19.6078 Hz, expected 20.00 Hz within 1%'),
        ],
    )
    def test_falls_short(self, changes, text):
        assert rate.shortfalls(self.report(**changes)) == [text]

    def test_table(self):
        lines = rate.table(self.report()).splitlines()
        figures = ['20.0000', '0.000', '50.00', '50.00', '0', '101']
        assert lines[1].split() == ['idle', 'sent', *figures]
        assert lines[4].split() == ['idle', 'bare', 'timer', *figures]
        assert lines[7].split() == ['loaded', 'control', *figures]
        assert '7 idle, 7 loaded' in lines[9]
        assert '1.25 idle, 1.50 loaded' in lines[10]

    def test_bare_timer_keeps_absolute_deadlines(self):
        """However late one waking is, as many deadlines are met as have passed."""
        woken_ns = bare_timer.wake(5 * PERIOD_NS)
        assert len(woken_ns) == 4
        assert woken_ns[-1] - woken_ns[0] > 0

    def test_busy_processes_end_with_the_block(self):
        with busy_processes(2) as started:
            assert [process.poll() for process in started] == [None, None]
        assert [process.returncode for process in started] == [-signal.SIGTERM] * 2
