# SPDX-License-Identifier: Apache-2.0
"""Commands for a CARLA vehicle from any Python program, by a transport that is named.

The class keeps the interface that programs around the CARLA ROS bridge have used:
``publish_control(throttle, steer, brake, reverse=False)`` and ``close()``. By default it is one
long-lived rclpy publisher. ``use_docker_exec=True`` starts a process in the bridge's container
for every command, as people did; it is there to be compared, and takes seconds for each. There is
no fallback from one to the other: the transport asked for is used, recorded, or refused.
"""

from __future__ import annotations

from enum import Enum
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

from td3_agent.driving.command import (
    FULL_BRAKE,
    TwistCommand,
    TwistConvention,
    VehicleControl,
    twist_from_control,
    upstream_twist_from_control,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

DEFAULT_CONTAINER = 'ros2-bridge'
DEFAULT_SETUP_FILES = ('/opt/ros/humble/setup.bash',)
DEFAULT_WHEEL_ANGLE_RAD = 1.2217  # 70 degrees, most CARLA cars
EXEC_TIMEOUT_S = 30.0
EXEC_MARGIN_S = 10.0  # docker's own time around what runs in the container
ACK_S = 0.5  # how long the final stop may take to arrive
LOOK_S = 0.005
# What a program inside of the container ends with when `timeout` had to end it.
STATUS_TIMED_OUT = 124


class BridgeError(ValueError):
    """A command could not be sent by the transport that was asked for."""


class Transport(Enum):
    """How a command travels."""

    NATIVE = 'native rclpy'
    DOCKER_EXEC = 'docker exec'


class Sender(Protocol):
    """One way to send a Twist."""

    def send(self, twist: TwistCommand) -> None:
        """Send one Twist; raises BridgeError where it could not be sent."""

    def close(self) -> None:
        """Let go of everything; what was sent has left by then."""


class NativeSender:
    """One rclpy publisher in a context of its own, which disturbs no other rclpy user."""

    def __init__(self, topic: str, match_timeout_s: float, domain_id: int | None = None) -> None:
        """Wait until somebody listens to the topic; 0 [s] does not wait.

        Raises:
            BridgeError: rclpy cannot be imported here, or nobody listens in time.
        """
        try:
            import rclpy  # noqa: PLC0415  docker exec needs no ROS 2 on this side
            from rclpy.executors import SingleThreadedExecutor  # noqa: PLC0415

            from td3_agent.nodes.qos import RELIABLE  # noqa: PLC0415
            from td3_agent.nodes.runtime import own_context  # noqa: PLC0415
        except ImportError as error:
            raise BridgeError(f'the native transport needs rclpy: {error}') from error
        from geometry_msgs.msg import Twist  # noqa: PLC0415

        self._kind = Twist
        self._context = own_context(domain_id)
        self._node = rclpy.create_node('td3_agent_bridge_interface', context=self._context)
        self._publisher = self._node.create_publisher(Twist, topic, RELIABLE)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        try:
            self._wait_for_listener(topic, match_timeout_s)
        except BaseException:
            self.close()
            raise

    def _wait_for_listener(self, topic: str, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while timeout_s > 0.0 and not self._publisher.get_subscription_count():
            if time.monotonic() > end_s:
                raise BridgeError(
                    f'nobody listens to {topic} after {timeout_s:g} s: start '
                    f'twist_to_control_node with input:=twist, or carla_twist_to_control'
                )
            self._executor.spin_once(timeout_sec=LOOK_S)

    def send(self, twist: TwistCommand) -> None:
        """Publish; returns when the middleware has it."""
        msg = self._kind()
        msg.linear.x, msg.angular.z = twist.linear_x, twist.angular_z
        self._publisher.publish(msg)

    def close(self) -> None:
        """Wait until listeners have the last command, then end node and context."""
        import rclpy  # noqa: PLC0415
        from rclpy.duration import Duration  # noqa: PLC0415

        self._publisher.wait_for_all_acked(Duration(seconds=ACK_S))
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def exec_command(  # noqa: PLR0913  what the command line is made of
    container: str,
    topic: str,
    kind: str,
    message: str,
    *,
    docker: str = 'docker',
    setup_files: Sequence[str] = DEFAULT_SETUP_FILES,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = EXEC_TIMEOUT_S,
) -> list[str]:
    """Return the command line that publishes one message from inside of a container.

    Args:
        container: name of the running container.
        topic: topic name.
        kind: message type, as ``geometry_msgs/msg/Twist``.
        message: content as YAML.
        docker: the docker executable.
        setup_files: files in the container that are sourced first.
        environment: variables that are set in the container.
        timeout_s: the publisher is ended after so long. It waits for a listener without end, and
            ending ``docker exec`` from outside would leave it behind in the container.
    """
    sourced = ''.join(f'source {shlex.quote(path)} && ' for path in setup_files)
    publish = ['timeout', f'{timeout_s:g}', 'ros2', 'topic', 'pub', '--once', topic, kind, message]
    variables = [word for item in (environment or {}).items() for word in ('-e', '='.join(item))]
    script = sourced + 'exec ' + shlex.join(publish)
    return [docker, 'exec', *variables, container, 'bash', '-c', script]


class DockerExecSender:
    """A process in the bridge's container for every command."""

    def __init__(  # noqa: PLR0913  what the command line is made of
        self,
        topic: str,
        container: str,
        *,
        docker: str = 'docker',
        setup_files: Sequence[str] = DEFAULT_SETUP_FILES,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = EXEC_TIMEOUT_S,
    ) -> None:
        """See :func:`exec_command` for the arguments; nothing is started yet."""
        self._topic, self._container = topic, container
        self._options: dict[str, Any] = {
            'docker': docker,
            'setup_files': tuple(setup_files),
            'environment': dict(environment or {}),
            'timeout_s': timeout_s,
        }

    def send(self, twist: TwistCommand) -> None:
        """Run the command in the container and wait for its end."""
        # Written out: YAML reads 1e-07 as text.
        x, z = f'{twist.linear_x:.12f}', f'{twist.angular_z:.12f}'
        message = f'{{linear: {{x: {x}}}, angular: {{z: {z}}}}}'
        kind = 'geometry_msgs/msg/Twist'
        command = exec_command(self._container, self._topic, kind, message, **self._options)
        timeout_s = self._options['timeout_s']
        try:
            done = subprocess.run(  # noqa: S603  every word is quoted
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s + EXEC_MARGIN_S,
                start_new_session=True,  # Ctrl-C is ours alone: the stop must still get through
            )
        except FileNotFoundError as error:
            raise BridgeError(f'docker exec needs {self._options["docker"]}: {error}') from error
        except subprocess.TimeoutExpired:
            raise BridgeError(
                f'docker exec did not end in {timeout_s + EXEC_MARGIN_S:g} s'
            ) from None
        if done.returncode == STATUS_TIMED_OUT:
            raise BridgeError(
                f'nobody listens to {self._topic} in container {self._container} after '
                f'{timeout_s:g} s'
            )
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip() or 'no output').splitlines()[-1]
            raise BridgeError(f'docker exec ended with {done.returncode}: {words}')

    def close(self) -> None:
        """Nothing is held between commands."""


class ROSBridgeInterface:
    """Sends vehicle commands as Twist messages; leaving the context stops the car.

    Attributes:
        transport: how commands travel; what was asked for, never another.
        topic: topic of the commands.
        commands: how many were sent, the final stop not counted.
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
            use_docker_exec: a process in ``container`` for every command.
            role_name: role name of the vehicle.
            topic: topic of the commands; empty: ``/carla/<role_name>/twist``.
            twist_convention: ``velocity`` for our gate, ``carla_twist_to_control`` for
                upstream's node.
            max_steer_angle_rad: wheel angle at full steer [rad]; upstream's convention only.
            match_timeout_s: native: longest wait for a listener [s]; 0 does not wait.
            domain_id: native: ROS domain; None is that of the environment.
            container: docker exec: name of the container.
            setup_files: docker exec: files in the container that are sourced.
            docker: docker exec: the executable.
            exec_environment: docker exec: variables that are set in the container.
            exec_timeout_s: docker exec: longest time of one command [s].

        Raises:
            BridgeError: the native transport cannot be had, or nobody listens.
            ValueError: an argument is refused.
        """
        self._convention = _convention(twist_convention)
        self._max_steer_angle_rad = _positive('max_steer_angle_rad', max_steer_angle_rad, 'rad')
        self.topic = topic or f'/carla/{role_name}/twist'
        self.transport = Transport.DOCKER_EXEC if use_docker_exec else Transport.NATIVE
        self.container = container if use_docker_exec else None
        self.commands = 0
        self._closed = False
        self._sender: Sender
        if use_docker_exec:
            self._sender = DockerExecSender(
                self.topic,
                container,
                docker=docker,
                setup_files=setup_files,
                environment=exec_environment,
                timeout_s=_positive('exec_timeout_s', exec_timeout_s, 's'),
            )
        else:
            self._sender = NativeSender(self.topic, match_timeout_s, domain_id)

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
            steer: in [-1, 1], right positive, as in CARLA; ROS's left-positive yaw is made here.
            brake: in [0, 1].
            reverse: gearbox in reverse.

        Raises:
            ValueError: a value is out of range or not finite; every fault is named.
            BridgeError: it could not be sent.
        """
        if self._closed:
            raise BridgeError('publish_control() after close(): the car has been stopped')
        control = VehicleControl(throttle=throttle, steer=steer, brake=brake, reverse=reverse)
        if faults := control.faults():
            raise ValueError('; '.join(faults))
        self._sender.send(self._twist(control))
        self.commands += 1

    def close(self) -> None:
        """Send a stop and let go of the transport; a second call does nothing.

        Raises:
            BridgeError: the stop could not be sent.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._sender.send(self._twist(FULL_BRAKE))
        finally:
            self._sender.close()

    def record(self) -> dict[str, object]:
        """Return what a result file has to say about how commands travelled."""
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
        """Return the interface itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the car, whatever happened."""
        self.close()


def _convention(name: str) -> TwistConvention:
    known = [convention.value for convention in TwistConvention]
    if name not in known:
        raise ValueError(f'twist_convention must be {" or ".join(known)}, got {name!r}')
    return TwistConvention(name)


def _positive(name: str, value: float, unit: str) -> float:
    if not 0.0 < value < float('inf'):
        raise ValueError(f'{name} must be > 0 [{unit}], got {value}')
    return value
