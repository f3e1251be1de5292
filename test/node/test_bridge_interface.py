# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ROSBridgeInterface over real ROS 2: both transports, the same commands, always a stop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import math
from pathlib import Path
import signal
import subprocess
import sys
import threading

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist
from harness.messages import ROLE, odometry, vehicle_info
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
import numpy as np
import pytest

from td3_agent import bridge_interface
from td3_agent.bridge_interface import (
    BridgeError,
    DockerExecSender,
    ROSBridgeInterface,
    Transport,
)
from td3_agent.driving.command import TwistCommand
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import LATCHED

TOPIC = topics.twist(ROLE)
DOCKER = str(Path(__file__).parents[1] / 'standins' / 'docker')
NATIVE, EXEC = 'native', 'docker exec'
# Listens in a process of its own, which can be stopped; ends with its input.
LISTENER = """
import sys, threading
from geometry_msgs.msg import Twist
import rclpy
from td3_agent.nodes.runtime import RELIABLE
rclpy.init()
node = rclpy.create_node('listener')
node.create_subscription(Twist, sys.argv[1], lambda msg: print('heard', flush=True), RELIABLE)
threading.Thread(target=lambda: sys.stdin.read() or rclpy.try_shutdown(), daemon=True).start()
try:
    rclpy.spin(node)
except rclpy.executors.ExternalShutdownException:
    pass
"""


@pytest.fixture
def background():
    """A thread for what blocks while the test spins its nodes."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def setup_file(tmp_path):
    """A file with a blank in its name, whose sourcing can be seen."""
    path = tmp_path / 'the setup.bash'
    path.write_text(f'touch {tmp_path}/sourced\n', 'utf-8')
    return path


def options(transport, ros, setup_file, **changes):
    """Arguments that reach the test's nodes by one of the transports."""
    if transport == NATIVE:
        return {'domain_id': ros.domain_id} | changes
    return {
        'use_docker_exec': True,
        'docker': DOCKER,
        'setup_files': [str(setup_file)],
        'exec_environment': {'ROS_DOMAIN_ID': str(ros.domain_id)},
    } | changes


def drive(ros, background, commands, **arguments):
    """Send commands from a thread while the nodes spin; return what the interface recorded."""

    def work():
        with ROSBridgeInterface(**arguments) as interface:
            for command in commands:
                interface.publish_control(*command)
            return interface.record()

    done = background.submit(work)
    ros.spin_until(done.done, 'the commands')
    return done.result()


@pytest.mark.parametrize('transport', [NATIVE, EXEC])
def test_commands_arrive_in_order_and_end_with_a_stop(ros, background, setup_file, transport):
    heard = ros.listen(Twist, TOPIC)
    commands = [(0.5, 0.0, 0.0, np.False_), (1.0, 0.25, 0.5, np.True_)]
    record = drive(ros, background, commands, **options(transport, ros, setup_file))
    ros.spin_until(lambda: len(heard) == 3, 'three messages')
    got = [value for msg in heard for value in (msg.linear.x, msg.angular.z)]
    # Full throttle is 8.33 m/s; CARLA's steer is right positive, ROS's yaw left positive.
    assert got == pytest.approx([4.165, 0.0, -4.165, -0.25, 0.0, 0.0])
    assert record == {
        'transport': {NATIVE: 'native rclpy', EXEC: 'docker exec'}[transport],
        'container': {NATIVE: None, EXEC: 'ros2-bridge'}[transport],
        'topic': TOPIC,
        'twist_convention': 'velocity',
        'commands': 2,
    }
    assert (setup_file.parent / 'sourced').exists() == (transport == EXEC)


def test_gate_executes_the_commands(ros, background):
    from td3_agent.nodes.gate_node import GateNode

    node = ros.make(GateNode, mode='free_running', input='twist')
    controls = ros.listen(CarlaEgoVehicleControl, topics.control(ROLE))
    motions = ros.talk(Odometry, topics.odometry(ROLE))
    infos = ros.talk(CarlaEgoVehicleInfo, topics.vehicle_info(ROLE), LATCHED)
    infos.publish(vehicle_info())
    ros.spin_until_matched()
    standing = odometry(0, speed_mps=0.0)

    def stand():
        standing.header.stamp = ros.peer.get_clock().now().to_msg()
        motions.publish(standing)

    ros.peer.create_timer(0.05, stand)  # a gate that hears no odometry brakes
    ros.spin_until(lambda: node.gate.geometry, 'the vehicle')
    obeyed = threading.Event()

    def work():
        with ROSBridgeInterface(domain_id=ros.domain_id) as interface:
            while not obeyed.wait(0.05):  # the gate takes the newest command alone
                interface.publish_control(1.0, 0.0, 0.0)

    driving = background.submit(work)
    try:
        ros.spin_until(lambda: any(c.throttle > 0.0 for c in controls), 'throttle')
    finally:
        obeyed.set()
    ros.spin_until(lambda: driving.done() and controls[-1].brake > 0.0, 'the stop')
    driving.result()


@pytest.mark.parametrize('transport', [NATIVE, EXEC])
def test_a_failing_block_still_stops_the_car(ros, background, setup_file, transport):
    heard = ros.listen(Twist, TOPIC)

    def work():
        with ROSBridgeInterface(**options(transport, ros, setup_file)) as interface:
            interface.publish_control(1.0, 0.0, 0.0)
            interface.publish_control(1.0, float('nan'), 0.0)

    done = background.submit(work)
    ros.spin_until(done.done, 'the commands')
    with pytest.raises(ValueError, match=r'steer must be in \[-1.0, 1.0\], got nan'):
        done.result()
    ros.spin_until(lambda: len(heard) == 2, 'two messages')
    assert heard[-1].linear.x == 0.0


def tensor(value):
    """Output of a policy, with gradients."""
    torch = pytest.importorskip('torch')
    return torch.tensor(value, requires_grad=True)


NUMBER_KINDS = (np.float16, np.float32, np.float64, np.longdouble, np.array, tensor)


@pytest.mark.parametrize('convention', ['velocity', 'carla_twist_to_control'])
def test_numbers_of_any_kind_arrive_as_what_they_are(ros, background, convention):
    """The setters of messages check nothing: unconverted, memory is read as a float."""
    heard = ros.listen(Twist, TOPIC)
    values = (0.5, -0.25, 0.125)  # exact in any precision
    commands = [values, *(tuple(kind(value) for value in values) for kind in NUMBER_KINDS)]
    commands += [tuple(np.array([value]) for value in values)]
    whole = [(1.0, -1.0, 0.0), (1, -1, 0), tuple(np.int64(value) for value in (1, -1, 0))]
    angle = {'max_steer_angle_rad': 1, 'twist_convention': convention}
    done = background.submit(ROSBridgeInterface, domain_id=ros.domain_id, **angle)
    ros.spin_until(done.done, 'the interface')
    with done.result() as interface:
        for sent, command in enumerate(commands + whole, 1):
            interface.publish_control(*command)
            ros.spin_until(lambda sent=sent: len(heard) == sent, 'the command')
    got = [(msg.linear.x, msg.angular.z) for msg in heard]
    assert set(got[: len(commands)]) == {got[0]}
    assert set(got[len(commands) :]) == {got[-1]}
    assert got[-1] == ((8.33 if convention == 'velocity' else 10.0), 1.0)


@pytest.mark.parametrize(
    ('command', 'text'),
    [
        (('0.5', 0.0, 0.0), r"throttle must be a number in \[0, 1\], got '0.5'"),
        ((0.0, None, 0.0), r'steer must be a number in \[-1, 1\], got None'),
        ((0.0, 0.0, np.zeros(2)), r'brake must be a number in \[0, 1\], got array\('),
        ((0.0, 0.0, 10**400), r'brake must be a number in \[0, 1\], got 1000'),
        ((0.0, 1j, 2.0), r'steer must be a number in .* 1j; brake must be in \[0.0, 1.0\], got 2'),
        ((0.0, 0.0, 0.0, 'False'), "reverse must be True or False, got 'False'"),
        ((0.0, 0.0, 0.0, math.nan), 'reverse must be True or False, got nan'),
        ((np.nan, 0.0, 0.0, 0), r'reverse .* got 0; throttle must be in \[0.0, 1.0\], got nan'),
    ],
)
def test_invalid_command_is_rejected(monkeypatch, command, text):
    monkeypatch.setattr(DockerExecSender, 'send', lambda *_: None)
    monkeypatch.setattr(DockerExecSender, 'deliver', lambda *_: None)
    with (
        ROSBridgeInterface(use_docker_exec=True) as interface,
        pytest.raises(ValueError, match=text),
    ):
        interface.publish_control(*command)
    assert interface.commands == 0


class TestStopThatDoesNotArrive:
    @pytest.fixture
    def listener(self, ros, monkeypatch):
        """A process that subscribes."""
        monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.domain_id))
        with subprocess.Popen(
            [sys.executable, '-c', LISTENER, TOPIC],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @pytest.fixture
    def stuck(self, listener, monkeypatch):
        """An interface whose subscriber is stopped after its first message."""
        monkeypatch.setattr(bridge_interface, 'ACK_S', 0.5)
        interface = ROSBridgeInterface()
        interface.publish_control(1.0, 0.0, 0.0)
        assert listener.stdout.readline() == b'heard\n'
        listener.send_signal(signal.SIGSTOP)
        return interface

    def test_it_is_reported_after_closing_everything(self, stuck):
        text = rf'the stop may not have arrived: not acknowledged on {TOPIC} in 0.5 s'
        with pytest.raises(BridgeError, match=text):
            stuck.close()
        assert not stuck._sender._executor.context.ok()
        stuck.close()

    def test_other_threads_go_on_meanwhile(self, stuck, background):
        ended, looks = threading.Event(), []

        def look():
            while not ended.wait(0.01):
                looks.append(None)

        background.submit(look)
        try:
            with pytest.raises(BridgeError):
                stuck.close()
        finally:
            ended.set()
        assert len(looks) > 5

    def test_listener_that_left_is_missed(self, listener):
        interface = ROSBridgeInterface()
        interface.publish_control(1.0, 0.0, 0.0)
        listener.communicate()
        text = f'the stop may not have arrived: no subscriber on {TOPIC}'
        with pytest.raises(BridgeError, match=text), interface:
            pass

    @pytest.mark.parametrize('kind', [RuntimeError, KeyboardInterrupt])
    def test_exception_in_flight_propagates(self, ros, caplog, kind):
        with (
            pytest.raises(kind, match='the true reason'),
            ROSBridgeInterface(match_timeout_s=0, domain_id=ros.domain_id),
        ):
            raise kind('the true reason')
        assert caplog.messages == [f'the stop may not have arrived: no subscriber on {TOPIC}']

    def test_in_the_container(self, setup_file):
        options = {'docker': DOCKER, 'container': 'gone', 'setup_files': [str(setup_file)]}
        interface = ROSBridgeInterface(use_docker_exec=True, **options)
        with pytest.raises(
            BridgeError, match='stop may not have arrived: docker exec ended with 1'
        ):
            interface.close()


def test_closed_is_closed(ros, background):
    heard = ros.listen(Twist, TOPIC)

    def work():
        interface = ROSBridgeInterface(domain_id=ros.domain_id)
        interface.close()
        interface.close()
        with pytest.raises(BridgeError, match='after close'):
            interface.publish_control(1.0, 0.0, 0.0)

    done = background.submit(work)
    ros.spin_until(done.done, 'the end')
    done.result()
    ros.spin_until(lambda: heard, 'the stop')
    assert len(heard) == 1


class TestNoFallback:
    def test_no_subscriber_natively(self, ros):
        with pytest.raises(BridgeError, match=r'no subscriber on /carla/ego_vehicle/twist after'):
            ROSBridgeInterface(match_timeout_s=0.05, domain_id=ros.domain_id)

    def test_no_subscriber_in_the_container(self, ros, setup_file):
        interface = ROSBridgeInterface(**options(EXEC, ros, setup_file, exec_timeout_s=1.0))
        with pytest.raises(BridgeError, match=r'no subscriber on .* in container ros2-bridge'):
            interface.publish_control(1.0, 0.0, 0.0)
        assert interface.transport is Transport.DOCKER_EXEC
        assert interface.commands == 0

    @pytest.mark.parametrize(
        ('changes', 'text'),
        [
            ({'container': 'gone'}, 'docker exec ended with 1: .*No such container: gone'),
            ({'docker': '/nowhere/docker'}, 'docker exec needs /nowhere/docker'),
            ({'docker': '/etc/passwd'}, 'docker exec needs /etc/passwd: .*Permission denied'),
            ({'setup_files': ['/nowhere/setup.bash']}, 'docker exec ended with 1: .*nowhere'),
        ],
    )
    def test_docker_that_does_not_work_is_named(self, ros, setup_file, changes, text):
        interface = ROSBridgeInterface(**options(EXEC, ros, setup_file, **changes))
        with pytest.raises(BridgeError, match=text):
            interface.publish_control(1.0, 0.0, 0.0)

    def test_output_of_docker_need_not_be_utf_8(self, tmp_path):
        docker = tmp_path / 'docker'
        docker.write_text("#!/bin/sh\nprintf 'k\\374nstlich' >&2\nexit 3\n")
        docker.chmod(0o700)
        interface = ROSBridgeInterface(use_docker_exec=True, docker=str(docker))
        with pytest.raises(BridgeError, match='docker exec ended with 3: k\ufffdnstlich'):
            interface.publish_control(1.0, 0.0, 0.0)

    @pytest.mark.parametrize(
        ('variable', 'changes', 'text'),
        [
            ('abc', {}, 'ROS_DOMAIN_ID must be a number from 0 to 232, got abc'),
            ('233', {}, 'ROS_DOMAIN_ID must be a number from 0 to 232, got 233'),
            ('1', {'domain_id': -1}, 'domain_id must be a number from 0 to 232, got -1'),
            ('1', {'domain_id': 233}, 'domain_id must be a number from 0 to 232, got 233'),
            ('1', {'domain_id': 1.5}, 'domain_id must be a number from 0 to 232, got 1.5'),
            ('1', {'topic': 'a//b'}, r'rclpy cannot publish a//b: Invalid topic name: (.|\n)*'),
        ],
    )
    def test_what_rclpy_rejects_is_named(self, monkeypatch, variable, changes, text):
        from td3_agent.nodes import runtime

        made, own_context = [], runtime.own_context

        def noted(domain_id):
            made.append(own_context(domain_id))
            return made[-1]

        monkeypatch.setattr(runtime, 'own_context', noted)
        monkeypatch.setenv('ROS_DOMAIN_ID', variable)
        with pytest.raises(BridgeError, match=f'^{text}$'):
            ROSBridgeInterface(match_timeout_s=0.05, **changes)
        assert not any(context.ok() for context in made)

    def test_native_without_rclpy_is_rejected(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'rclpy', None)
        with pytest.raises(BridgeError, match='native transport needs rclpy'):
            ROSBridgeInterface()


def test_docker_exec_needs_no_ros_on_this_side():
    program = (
        'import sys\nsys.modules["rclpy"] = None\n'
        'from td3_agent.bridge_interface import ROSBridgeInterface\n'
        'ROSBridgeInterface(use_docker_exec=True)'
    )
    subprocess.run([sys.executable, '-c', program], check=True)


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'twist_convention': 'other'}, "twist_convention must be velocity or .*, got 'other'"),
        ({'max_steer_angle_rad': 0.0}, r'max_steer_angle_rad must be > 0 \[rad\], got 0.0'),
        ({'max_steer_angle_rad': '1'}, r"max_steer_angle_rad must be > 0 \[rad\], got '1'"),
        ({'exec_timeout_s': float('nan')}, r'exec_timeout_s must be > 0 \[s\], got nan'),
        ({'role_name': 'a b'}, "role_name must be letters, digits and '_', .*, got 'a b'"),
        ({'role_name': ''}, "role_name must be letters, digits and '_', .*, got ''"),
        ({'role_name': 'a\n'}, 'role_name must be letters, digits'),
        ({'setup_files': '/opt/x.bash'}, "setup_files must be a list .*, got '/opt/x.bash'"),
        ({'setup_files': [Path('/x')]}, 'setup_files must be a list of strings'),
        (
            {'exec_environment': {'A': 'b', 'ROS_DOMAIN_ID': 5}},
            r"exec_environment must map strings to strings, got \{'ROS_DOMAIN_ID': 5\}",
        ),
    ],
)
def test_arguments_are_rejected(arguments, text):
    with pytest.raises(ValueError, match=text):
        ROSBridgeInterface(use_docker_exec=True, **arguments)


@pytest.mark.parametrize('wait_s', [math.nan, math.inf, -1.0, '1'])
def test_invalid_wait_is_rejected(wait_s):
    with pytest.raises(ValueError, match=r'match_timeout_s must be >= 0 \[s\], got'):
        ROSBridgeInterface(match_timeout_s=wait_s)


@given(st.lists(st.text(st.characters(codec='utf-8', exclude_characters='\0')), max_size=3))
def test_any_setup_file_name_is_one_word_of_the_shell(names):
    import shlex

    script = DockerExecSender('/t', 'c', setup_files=names).command('{a: "$(b)"}')[-1]
    words = shlex.split(script)
    assert [words[3 * k + 1] for k in range(len(names))] == names
    assert words[-1] == '{a: "$(b)"}'


def test_small_numbers_are_yaml_numbers(monkeypatch):
    """YAML 1.1 reads 1e-07 as text; ros2 topic pub would reject it."""
    import yaml

    seen = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(subprocess, 'run', lambda words, **_: seen.append(words[-1]) or done)
    DockerExecSender('/t', 'c').send(TwistCommand(1e-7, -0.0))
    import shlex

    message = yaml.safe_load(shlex.split(seen[0])[-1])
    assert message == {'linear': {'x': 1e-7}, 'angular': {'z': 0.0}}
