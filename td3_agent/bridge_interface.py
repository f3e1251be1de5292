# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands for a CARLA vehicle from any Python program, by an explicit transport.

The class keeps the interface that programs around the CARLA ROS bridge have used:
``publish_control(throttle, steer, brake, reverse=False)`` and ``close()``. By default it is one
long-lived rclpy publisher. ``use_docker_exec=True`` starts a process in the bridge's container
for every command, which takes seconds; it exists for comparison. One never falls back to the
other: if the requested transport does not work, BridgeError is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
import logging
import math
from numbers import Real
import os
import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import (
    FULL_BRAKE,
    TwistCommand,
    TwistConvention,
    VehicleControl,
    twist_from_control,
    upstream_twist_from_control,
)
from td3_agent.ros_domain import LAST_DOMAIN_ID, domain_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

DEFAULT_CONTAINER = 'ros2-bridge'
DEFAULT_SETUP_FILES = ('/opt/ros/humble/setup.bash',)
DEFAULT_WHEEL_ANGLE_RAD = 1.2217  # 70 degrees, most CARLA cars
# The publisher waits for a subscriber without end; killing docker here would leave it running.
EXEC_TIMEOUT_S = 30.0
EXEC_MARGIN_S = 10.0  # docker's own time around what runs in the container
# How long a subscriber may take to acknowledge the final stop: Fast DDS asks for
# acknowledgements only every 3 s.
ACK_S = 5.0
LOOK_S = 0.005
# Exit status of `timeout` inside the container.
STATUS_TIMED_OUT = 124
ROLE_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')  # a ROS 2 name
CONTROL_RANGES = {'throttle': '[0, 1]', 'steer': '[-1, 1]', 'brake': '[0, 1]'}

logger = logging.getLogger(__name__)


class BridgeError(ValueError):
    """The requested transport could not send a command."""


class Transport(Enum):
    """How a command travels."""

    NATIVE = 'native rclpy'
    DOCKER_EXEC = 'docker exec'


class NativeSender:
    """One rclpy publisher in its own context, apart from other rclpy users of the process."""

    def __init__(self, topic: str, match_timeout_s: float, domain_id: int | None = None) -> None:
        """Wait for a subscriber to the topic; 0 [s] does not wait.

        Raises:
            BridgeError: rclpy cannot be imported, rejects domain or topic, or no subscriber
                appears in time.
        """
        try:
            import rclpy  # noqa: PLC0415  docker exec needs no ROS 2 on this side
            from rclpy.executors import SingleThreadedExecutor  # noqa: PLC0415

            from td3_agent.nodes.runtime import RELIABLE, own_context  # noqa: PLC0415
        except ImportError as error:
            raise BridgeError(f'the native transport needs rclpy: {error}') from error
        from geometry_msgs.msg import Twist  # noqa: PLC0415

        self._kind, self._topic = Twist, topic
        domain_id = _known_domain_id(domain_id)
        with ExitStack() as opened:
            try:
                context = own_context(domain_id)
                opened.callback(rclpy.shutdown, context=context)
                node = rclpy.create_node('td3_agent_bridge_interface', context=context)
                opened.callback(node.destroy_node)
                self._publisher = node.create_publisher(Twist, topic, RELIABLE)
            except Exception as error:  # rclpy's errors have no common base
                raise BridgeError(f'rclpy cannot publish {topic}: {error}') from error
            self._executor = SingleThreadedExecutor(context=context)
            opened.callback(self._executor.shutdown, timeout_sec=1.0)
            self._executor.add_node(node)
            self._wait_for_subscriber(match_timeout_s)
            self._opened = opened.pop_all()

    def _wait_for_subscriber(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while timeout_s > 0.0 and not self._publisher.get_subscription_count():
            if time.monotonic() > end_s:
                raise BridgeError(
                    f'no subscriber on {self._topic} after {timeout_s:g} s: start '
                    f'gate_node with input:=twist, or carla_twist_to_control'
                )
            self._executor.spin_once(timeout_sec=LOOK_S)

    def send(self, twist: TwistCommand) -> None:
        """Publish; returns when the middleware has it.

        Raises:
            BridgeError: the Twist is not finite.
        """
        if not twist.is_finite:
            raise BridgeError(f'a Twist must be finite, got {twist}')
        msg = self._kind()
        # The message accepts any object; one that is no Python float would go out as garbage.
        msg.linear.x, msg.angular.z = float(twist.linear_x), float(twist.angular_z)
        self._publisher.publish(msg)

    def deliver(self, twist: TwistCommand) -> None:
        """Publish, and wait until every subscriber has acknowledged.

        Raises:
            BridgeError: there is no subscriber, or one does not acknowledge in time.
        """
        from rclpy.duration import Duration  # noqa: PLC0415

        had_subscriber = self._publisher.get_subscription_count()
        self.send(twist)
        end_s = time.monotonic() + ACK_S
        # Polled: while rclpy waits, no other thread of the program runs.
        while not self._publisher.wait_for_all_acked(Duration()):
            if time.monotonic() > end_s:
                raise BridgeError(f'not acknowledged on {self._topic} in {ACK_S:g} s')
            self._executor.spin_once(timeout_sec=LOOK_S)
        # Without a subscriber the wait above returns at once.
        if not (had_subscriber and self._publisher.get_subscription_count()):
            raise BridgeError(f'no subscriber on {self._topic}')

    def close(self) -> None:
        self._opened.close()


class DockerExecSender:
    """A process in the bridge's container for every command."""

    def __init__(  # noqa: PLR0913  the parts of the command line
        self,
        topic: str,
        container: str,
        *,
        docker: str = 'docker',
        setup_files: Sequence[str] = DEFAULT_SETUP_FILES,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = EXEC_TIMEOUT_S,
    ) -> None:
        """See :class:`ROSBridgeInterface` for the arguments; nothing is started yet.

        Raises:
            ValueError: ``setup_files`` or ``environment`` have the wrong type.
        """
        self._topic, self._container, self._docker = topic, container, docker
        self._timeout_s = timeout_s
        sourced = [f'source {shlex.quote(path)}' for path in _checked_paths(setup_files)]
        self._before = ''.join(f'{words} && ' for words in sourced)
        pairs = _checked_variables(environment or {}).items()
        self._variables = [word for pair in pairs for word in ('-e', '='.join(pair))]

    def command(self, message: str, kind: str = 'geometry_msgs/msg/Twist') -> list[str]:
        """Return the command line that publishes one message, given as YAML."""
        publish = ['timeout', f'{self._timeout_s:g}', 'ros2', 'topic', 'pub', '--once']
        publish += [self._topic, kind, message]
        script = f'{self._before}exec {shlex.join(publish)}'
        return [self._docker, 'exec', *self._variables, self._container, 'bash', '-c', script]

    def send(self, twist: TwistCommand) -> None:
        """Run the command in the container and wait for its end."""
        # Without an exponent: YAML reads 1e-07 as text.
        x, z = f'{twist.linear_x:.12f}', f'{twist.angular_z:.12f}'
        longest_s = self._timeout_s + EXEC_MARGIN_S
        try:
            done = subprocess.run(  # noqa: S603  every word is quoted
                self.command(f'{{linear: {{x: {x}}}, angular: {{z: {z}}}}}'),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                errors='replace',
                check=False,
                timeout=longest_s,
                start_new_session=True,  # Ctrl-C must not reach it: the stop still has to be sent
            )
        except OSError as error:
            raise BridgeError(f'docker exec needs {self._docker}: {error}') from error
        except subprocess.TimeoutExpired:
            raise BridgeError(f'docker exec did not end in {longest_s:g} s') from None
        if done.returncode == STATUS_TIMED_OUT:
            raise BridgeError(
                f'no subscriber on {self._topic} in container {self._container} after '
                f'{self._timeout_s:g} s'
            )
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip() or 'no output').splitlines()[-1]
            raise BridgeError(f'docker exec ended with {done.returncode}: {words}')

    deliver = send  # the process in the container ends once its message is acknowledged

    def close(self) -> None:
        """Nothing is held between commands."""


class ROSBridgeInterface:
    """Sends vehicle commands as Twist messages; leaving the context stops the car.

    Attributes:
        transport: how commands travel.
        topic: topic of the commands.
        commands: number of commands sent, without the final stop.
    """

    def __init__(  # noqa: PLR0913  all but the first have a default that suits most
        self,
        *,
        use_docker_exec: bool = False,
        role_name: str = 'ego_vehicle',
        topic: str = '',
        twist_convention: str = 'velocity',
        max_steer_angle_rad: float = DEFAULT_WHEEL_ANGLE_RAD,
        match_timeout_s: float = 10.0,
        domain_id: int | None = None,
        container: str = DEFAULT_CONTAINER,
        setup_files: Sequence[str] = DEFAULT_SETUP_FILES,
        docker: str = 'docker',
        exec_environment: Mapping[str, str] | None = None,
        exec_timeout_s: float = EXEC_TIMEOUT_S,
    ) -> None:
        """Open the transport.

        Args:
            use_docker_exec: start a process in ``container`` for every command.
            role_name: role name of the vehicle.
            topic: topic of the commands; empty: ``/carla/<role_name>/twist``.
            twist_convention: ``velocity`` for our gate, ``carla_twist_to_control`` for
                upstream's node.
            max_steer_angle_rad: wheel angle at full steer [rad]; upstream's convention only.
            match_timeout_s: native: longest wait for a subscriber [s]; 0 does not wait.
            domain_id: native: ROS domain; None takes it from the environment.
            container: docker exec: its name.
            setup_files: docker exec: files in the container to source.
            docker: docker exec: the executable.
            exec_environment: docker exec: variables to set in the container.
            exec_timeout_s: docker exec: longest time of one command [s].

        Raises:
            BridgeError: rclpy is not available, or there is no subscriber in time.
            ValueError: an argument is invalid.
        """
        known = [convention.value for convention in TwistConvention]
        if twist_convention not in known:
            raise ValueError(
                f'twist_convention must be {" or ".join(known)}, got {twist_convention!r}'
            )
        self._convention = TwistConvention(twist_convention)
        self._max_steer_angle_rad = _amount('max_steer_angle_rad', max_steer_angle_rad, 'rad')
        if not (topic or ROLE_NAME.fullmatch(role_name)):
            raise ValueError(
                f"role_name must be letters, digits and '_', no digit first, got {role_name!r}"
            )
        self.topic = topic or f'/carla/{role_name}/twist'
        self.transport = Transport.DOCKER_EXEC if use_docker_exec else Transport.NATIVE
        self.container = container if use_docker_exec else None
        self.commands = 0
        self._closed = False
        self._sender: NativeSender | DockerExecSender
        if use_docker_exec:
            self._sender = DockerExecSender(
                self.topic,
                container,
                docker=docker,
                setup_files=setup_files,
                environment=exec_environment,
                timeout_s=_amount('exec_timeout_s', exec_timeout_s, 's'),
            )
        else:
            wait_s = _amount('match_timeout_s', match_timeout_s, 's', zero=True)
            self._sender = NativeSender(self.topic, wait_s, domain_id)

    def publish_control(
        self,
        throttle: float,
        steer: float,
        brake: float,
        reverse: bool = False,  # noqa: FBT001, FBT002  the interface that programs know
    ) -> None:
        """Send one command.

        Args:
            throttle: in [0, 1].
            steer: in [-1, 1], right positive, as in CARLA; the Twist has ROS's left-positive yaw.
            brake: in [0, 1].
            reverse: gearbox in reverse.

        Scalars of NumPy and PyTorch work too.

        Raises:
            ValueError: a value is no number, not finite or out of range; the text names each.
            BridgeError: the command could not be sent.
        """
        if self._closed:
            raise BridgeError('publish_control() after close(): the car has been stopped')
        control = _control(throttle, steer, brake, reverse)
        self._sender.send(self._twist(control))
        self.commands += 1

    def close(self) -> None:
        """Send a stop and close the transport; a second call does nothing.

        Raises:
            BridgeError: the stop may not have arrived; the transport is closed anyway.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._sender.deliver(self._twist(FULL_BRAKE))
        except BridgeError as error:
            raise BridgeError(f'the stop may not have arrived: {error}') from error
        finally:
            self._sender.close()

    def record(self) -> dict[str, object]:
        """Return what a result file records of the transport."""
        return {
            'transport': self.transport.value,
            'container': self.container,
            'topic': self.topic,
            'twist_convention': self._convention.value,
            'commands': self.commands,
        }

    def _twist(self, control: VehicleControl) -> TwistCommand:
        if self._convention is TwistConvention.VELOCITY:
            return twist_from_control(control)
        return upstream_twist_from_control(control, self._max_steer_angle_rad)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the car; an exception in flight propagates, and is not replaced by BridgeError."""
        try:
            self.close()
        except BridgeError as error:
            if kind is None:
                raise
            logger.error('%s', error)  # noqa: TRY400  its traceback adds nothing


def _control(throttle: object, steer: object, brake: object, reverse: object) -> VehicleControl:
    """Return a command of plain Python floats.

    Raises:
        ValueError: naming every value that is no number or out of range.
    """
    given = {'throttle': throttle, 'steer': steer, 'brake': brake}
    numbers = {name: _number(value) for name, value in given.items()}
    faults = [
        f'{name} must be a number in {CONTROL_RANGES[name]}, got {given[name]!r}'
        for name, number in numbers.items()
        if number is None
    ]
    is_flag = isinstance(reverse, (bool, np.bool_))  # bool() would accept text and NaN
    if not is_flag:
        faults.append(f'reverse must be True or False, got {reverse!r}')
    control = VehicleControl(
        throttle=numbers['throttle'] or 0.0,
        steer=numbers['steer'] or 0.0,
        brake=numbers['brake'] or 0.0,
        reverse=is_flag and bool(reverse),
    )
    if faults := faults + control.faults():
        raise ValueError('; '.join(faults))
    return control


def _number(value: Any) -> float | None:  # noqa: ANN401  any object
    """Return a number of Python, NumPy or PyTorch as a float; None for anything else."""
    try:
        plain = value.item() if hasattr(value, 'item') else value
        return float(plain) if isinstance(plain, Real) else None
    except (TypeError, ValueError, RuntimeError, OverflowError):  # several elements; too large
        return None


def _amount(name: str, value: object, unit: str, *, zero: bool = False) -> float:
    """Return a finite number > 0, or >= 0 with ``zero``.

    Raises:
        ValueError: it is not a finite number in that range.
    """
    number = _number(value)
    if number is None or not (0.0 < number < math.inf or (zero and number == 0.0)):
        raise ValueError(f'{name} must be {">=" if zero else ">"} 0 [{unit}], got {value!r}')
    return number


def _known_domain_id(domain_id: int | None) -> int:
    """Return the ROS domain; None takes it from the environment.

    Raises:
        BridgeError: there is no such domain; the middleware would abort the process.
    """
    if domain_id is None:
        try:
            return domain_id_of(os.environ)
        except ValueError as error:
            raise BridgeError(str(error)) from None
    if not isinstance(domain_id, int) or not 0 <= domain_id <= LAST_DOMAIN_ID:
        raise BridgeError(
            f'domain_id must be a number from 0 to {LAST_DOMAIN_ID}, got {domain_id}'
        )
    return domain_id


def _checked_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths; a single str would be taken for a sequence of letters."""
    listed = isinstance(paths, Sequence) and not isinstance(paths, str)
    if not listed or not all(isinstance(path, str) for path in paths):
        raise ValueError(f'setup_files must be a list of strings, got {paths!r}')
    return tuple(paths)


def _checked_variables(variables: Mapping[str, str]) -> dict[str, str]:
    odd = {n: text for n, text in variables.items() if {type(n), type(text)} != {str}}
    if odd:
        raise ValueError(f'exec_environment must map strings to strings, got {odd}')
    return dict(variables)
