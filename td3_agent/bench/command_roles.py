# SPDX-License-Identifier: Apache-2.0
"""The processes of ``td3_agent bench command``: one that receives, two ways to send.

``receive`` listens. ``once`` starts ROS 2, finds it, sends one command and ends. ``publish``
stays, and sends as many commands as it is asked for, one under way at a time.
"""

from __future__ import annotations

from contextlib import suppress
import json
import sys
import threading
import time

from geometry_msgs.msg import TwistStamped
import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy

ONCE, NATIVE, ACKS = 'bench/once', 'bench/native', 'bench/acks'
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LOST_S = 2.0
MATCHED_S = 30.0
LOOK_S = 0.005
NANOSECONDS_PER_SECOND = 1_000_000_000


def command(sent_ns: int) -> TwistStamped:
    """Return a command that carries the steady time at which it is sent [ns]."""
    msg = TwistStamped()
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(sent_ns, NANOSECONDS_PER_SECOND)
    msg.header.frame_id = 'ego_vehicle'
    msg.twist.linear.x, msg.twist.angular.z = 5.0, 0.1
    return msg


def sent_ns(msg: TwistStamped) -> int:
    """Return the time that a command carries [ns, steady]."""
    stamp = msg.header.stamp
    return int(stamp.sec * NANOSECONDS_PER_SECOND + stamp.nanosec)


def receive() -> None:
    """Tell the parent when a single command came, and the publisher when each of its came."""
    node = rclpy.create_node('receiver')
    acks = node.create_publisher(TwistStamped, ACKS, RELIABLE)

    def on_once(_: TwistStamped) -> None:
        print(json.dumps({'received_ns': time.monotonic_ns()}), flush=True)

    def on_native(msg: TwistStamped) -> None:
        received_ns = time.monotonic_ns()
        ack = TwistStamped(header=msg.header)
        ack.twist.linear.x = float(received_ns - sent_ns(msg))
        acks.publish(ack)

    node.create_subscription(TwistStamped, ONCE, on_once, RELIABLE)
    node.create_subscription(TwistStamped, NATIVE, on_native, RELIABLE)
    print(json.dumps({'ready': True}), flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    with suppress(ExternalShutdownException):
        rclpy.spin(node)


def _end_with_input() -> None:
    sys.stdin.read()
    rclpy.try_shutdown()


def once() -> None:
    """Send one command, as a script that is started for each of them has to."""
    node = rclpy.create_node('once')
    publisher = node.create_publisher(TwistStamped, ONCE, RELIABLE)
    end_s = time.monotonic() + MATCHED_S
    while not publisher.get_subscription_count():
        if time.monotonic() > end_s:
            sys.exit(f'no receiver within {MATCHED_S:g} s')
        rclpy.spin_once(node, timeout_sec=LOOK_S)
    publisher.publish(command(time.monotonic_ns()))
    # Else it may end before the command has left.
    publisher.wait_for_all_acked(Duration(seconds=MATCHED_S))
    node.destroy_node()


def publish() -> None:
    """For each number read, send so many commands and print how long each took [ns]."""
    node = rclpy.create_node('publisher')
    publisher = node.create_publisher(TwistStamped, NATIVE, RELIABLE)
    received_ns: dict[int, int] = {}
    node.create_subscription(
        TwistStamped,
        ACKS,
        lambda ack: received_ns.update({sent_ns(ack): round(ack.twist.linear.x)}),
        RELIABLE,
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not (publisher.get_subscription_count() and node.count_publishers(ACKS)):
        executor.spin_once(timeout_sec=LOOK_S)
    for line in sys.stdin:
        received_ns.clear()
        call_ns, processor_ns = [], []
        for _ in range(int(line)):
            started_ns = time.monotonic_ns()
            msg = command(started_ns)
            worked_ns, before_ns = time.thread_time_ns(), time.monotonic_ns()
            publisher.publish(msg)
            call_ns.append(time.monotonic_ns() - before_ns)
            processor_ns.append(time.thread_time_ns() - worked_ns)
            end_s = time.monotonic() + LOST_S
            while started_ns not in received_ns and time.monotonic() < end_s:
                executor.spin_once(timeout_sec=LOST_S)
        times = {'call_ns': call_ns, 'processor_ns': processor_ns}
        print(json.dumps(times | {'received_ns': [*received_ns.values()]}), flush=True)
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()


ROLES = {'receive': receive, 'once': once, 'publish': publish}


def main() -> None:
    """Be one of the processes."""
    rclpy.init()
    ROLES[sys.argv[1]]()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
