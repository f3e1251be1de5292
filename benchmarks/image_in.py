#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Camera image published -> its pixels in hand in another process, over DDS, side by side.

Two readers: rclpy's typed subscription, and a raw subscription whose header is read here and
whose pixels are not copied again. Three settings of both processes: as they come; with the Fast
DDS profile of config/; with the profile and freed memory kept, as td3_agent's nodes do. All take
turns, so that a load from elsewhere meets each of them; there is one image under way at a time,
as in lockstep. One that does not arrive within two seconds is lost.

Prints a table; with ``--json`` the same as JSON.
"""

from __future__ import annotations

import argparse
import array
from contextlib import ExitStack, contextmanager, suppress
import json
import os
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image

from td3_agent.bench.verb import machine
from td3_agent.driving.frames import NANOSECONDS_PER_SECOND
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.driving.observation import ImageView
from td3_agent.evaluation.processes import free_domain_id, ros_environment
from td3_agent.fastdds import PROFILE_VARIABLES
from td3_agent.nodes.conversions import image_view, stamp_ns, time_from_ns
from td3_agent.nodes.qos import RELIABLE, camera

if TYPE_CHECKING:
    from collections.abc import Iterator

READERS = ('typed', 'raw')
PLAIN, PROFILE, MEMORY = SETTINGS = ('plain', 'profile', 'profile + memory')
SIZES = ('160x120', '800x600', '1920x1080')
WARM_UP = 5
ENCAPSULATION_BYTES = 4
CDR_LE = b'\x00\x01'
LOST_S = 2.0
MATCHED_S = 20.0
ENDING_S = 10.0


def stamped_view(serialized: bytes) -> tuple[int, ImageView]:
    """Read stamp [ns] and pixels of a serialised image in place (little-endian CDR).

    Raises:
        ValueError: it is not in that form, or cut off.
    """
    if serialized[:2] != CDR_LE:
        raise ValueError(f'encapsulation must be {CDR_LE!r}, got {serialized[:2]!r}')
    body = memoryview(serialized)[ENCAPSULATION_BYTES:]
    try:
        sec, nanosec, frame_id_bytes = struct.unpack_from('<iII', body)
        at = _aligned(12 + frame_id_bytes)
        height, width, encoding_bytes = struct.unpack_from('<III', body, at)
        at += 12
        encoding = bytes(body[at : at + encoding_bytes - 1]).decode('ascii')
        at = _aligned(at + encoding_bytes + 1)  # is_bigendian
        step, size = struct.unpack_from('<II', body, at)
    except struct.error as error:
        raise ValueError(f'an image cut off within its header: {error}') from error
    data = body[at + 8 : at + 8 + size]
    view = ImageView(data=data, height=height, width=width, encoding=encoding, step=step)
    return sec * NANOSECONDS_PER_SECOND + nanosec, view


def _aligned(at: int) -> int:
    """Return the next place where a 32 bit number may begin."""
    return at + -at % 4


class Receiver(Node):
    """Acknowledges every image with the time from its stamp to its pixels."""

    def __init__(self) -> None:
        """Listen in both ways, each on a topic of its own."""
        super().__init__('receiver')
        self._acks = self.create_publisher(TwistStamped, 'acks', RELIABLE)
        qos = camera('reliable')
        self.create_subscription(Image, 'typed', self._on_typed, qos)
        self.create_subscription(Image, 'raw', self._on_raw, qos, raw=True)

    def _on_typed(self, msg: Image) -> None:
        self._acknowledge(stamp_ns(msg.header.stamp), image_view(msg))

    def _on_raw(self, serialized: bytes) -> None:
        self._acknowledge(*stamped_view(serialized))

    def _acknowledge(self, sent_ns: int, view: ImageView) -> None:
        ack = TwistStamped()
        ack.header.stamp = time_from_ns(sent_ns)
        ack.twist.linear.x = (time.monotonic_ns() - sent_ns) / 1e6
        ack.twist.linear.y = float(view.pixels()[-1, -1, 0])
        self._acks.publish(ack)


class Sender(Node):
    """Publishes one image at a time and learns when it was in the receiver's hands."""

    def __init__(self) -> None:
        """Offer both topics."""
        super().__init__('sender')
        qos = camera('reliable')
        self._images = {name: self.create_publisher(Image, name, qos) for name in READERS}
        self._latency_ms: dict[int, float] = {}
        self._acks = self.create_subscription(TwistStamped, 'acks', self._on_ack, RELIABLE)

    def wait_until_matched(self) -> None:
        """Wait for the receiver.

        Raises:
            TimeoutError: there is none.
        """
        end_s = time.monotonic() + MATCHED_S
        while not self._is_matched():
            if time.monotonic() > end_s:
                raise TimeoutError(f'no receiver within {MATCHED_S} s')
            rclpy.spin_once(self, timeout_sec=0.05)

    def _is_matched(self) -> bool:
        heard = all(publisher.get_subscription_count() for publisher in self._images.values())
        return heard and self.count_publishers('acks') > 0

    def send(self, reader: str, image: Image) -> float | None:
        """Return the latency of one image [ms]; None if it was lost."""
        sent_ns = time.monotonic_ns()
        image.header.stamp = time_from_ns(sent_ns)
        self._images[reader].publish(image)
        end_s = time.monotonic() + LOST_S
        while sent_ns not in self._latency_ms and time.monotonic() < end_s:
            rclpy.spin_once(self, timeout_sec=0.05)
        return self._latency_ms.pop(sent_ns, None)

    def _on_ack(self, ack: TwistStamped) -> None:
        self._latency_ms[stamp_ns(ack.header.stamp)] = ack.twist.linear.x


def image_of(size: str) -> Image:
    """Return a bgra8 image of ``WIDTHxHEIGHT``."""
    width, height = map(int, size.split('x'))
    image = Image(height=height, width=width, encoding='bgra8', step=4 * width)
    image.header.frame_id = 'ego_vehicle/camera'
    image.data = array.array('B', os.urandom(4 * width * height))
    return image


def receive() -> None:
    """Be the receiver until the process is asked to end."""
    node = Receiver()
    with suppress(ExternalShutdownException):
        rclpy.spin(node)
    node.destroy_node()


def send() -> None:
    """For each size read, send one image to each reader and print the latencies."""
    node = Sender()
    node.wait_until_matched()
    images: dict[str, Image] = {}
    turns = READERS
    for line in sys.stdin:
        size = line.strip()
        if size not in images:
            images[size] = image_of(size)
        print(json.dumps({name: node.send(name, images[size]) for name in turns}), flush=True)
        turns = turns[::-1]  # whoever comes second finds warmer caches
    node.destroy_node()


ROLES = {'receiver': receive, 'sender': send}


def play(role: str, setting: str) -> None:
    """Be one of the two processes."""
    if setting == MEMORY:
        keep_freed_memory()
    rclpy.init()
    ROLES[role]()
    rclpy.try_shutdown()  # a process that is killed leaves its shared memory behind


def environment_of(setting: str) -> dict[str, str]:
    """Return the environment of a pair: a free domain, and the profile or none."""
    environment = ros_environment(free_domain_id())
    if setting == PLAIN:
        for variable in PROFILE_VARIABLES:
            environment.pop(variable, None)
    return environment


@contextmanager
def pair(setting: str) -> Iterator[subprocess.Popen[str]]:
    """Run receiver and sender with one setting; yields the sender."""
    command = [sys.executable, __file__, '--setting', setting, '--role']
    environment = environment_of(setting)
    with (
        subprocess.Popen([*command, 'receiver'], env=environment) as receiver,  # noqa: S603  us
        subprocess.Popen(  # noqa: S603  this program
            [*command, 'sender'],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as sender,
    ):
        try:
            yield sender
        finally:
            sender.stdin.close()
            sender.wait(ENDING_S)
            receiver.terminate()
            receiver.wait(ENDING_S)


def one_round(sender: subprocess.Popen[str], size: str) -> dict[str, float | None]:
    """Have one image sent to each reader; return the latencies [ms].

    Raises:
        RuntimeError: the sender has ended.
    """
    print(size, file=sender.stdin, flush=True)
    for line in sender.stdout:
        if line.startswith('{'):  # Fast DDS logs to the same place
            return json.loads(line)
        sys.stderr.write(line)
    raise RuntimeError('a sender ended early; what it said is above')


def measure(sizes: list[str], rounds: int) -> dict[str, dict]:
    """Return all figures, by size; settings and readers take turns."""
    with ExitStack() as stack:
        senders = {name: stack.enter_context(pair(name)) for name in SETTINGS}
        return {size: figures_of(senders, size, rounds) for size in sizes}


def figures_of(senders: dict[str, subprocess.Popen[str]], size: str, rounds: int) -> dict:
    """Return the figures of one image size, and how they compare."""
    heard: dict[str, dict[str, list[float | None]]] = {
        setting: {reader: [] for reader in READERS} for setting in SETTINGS
    }
    for turn in range(WARM_UP + rounds):
        for setting, sender in senders.items():
            for reader, latency_ms in one_round(sender, size).items():
                if turn >= WARM_UP:
                    heard[setting][reader].append(latency_ms)
    figures = {
        setting: {reader: spread(values) for reader, values in readers.items()}
        for setting, readers in heard.items()
    }
    p50_ms = {setting: figures[setting]['typed']['p50_ms'] for setting in SETTINGS}
    return {
        'latency': figures,
        'ratio_raw': p50_ms[MEMORY] / figures[MEMORY]['raw']['p50_ms'],
        'ratio_profile': p50_ms[PLAIN] / p50_ms[PROFILE],
        'ratio_memory': p50_ms[PROFILE] / p50_ms[MEMORY],
        'ratio': p50_ms[PLAIN] / p50_ms[MEMORY],
    }


def spread(latencies_ms: list[float | None]) -> dict[str, float]:
    """Return median, 99th percentile and the number of lost images."""
    come = [value for value in latencies_ms if value is not None] or [float('nan')]
    p50_ms, p99_ms = np.percentile(come, (50, 99))
    return {'p50_ms': p50_ms, 'p99_ms': p99_ms, 'lost': latencies_ms.count(None)}


def print_table(figures: dict[str, dict]) -> None:
    """Print one row per size, setting and reader, and the ratios of medians."""
    print(f'{"size":<11}{"setting":<18}{"reader":<8}{"p50 [ms]":>9}{"p99 [ms]":>10}{"lost":>6}')
    for size, found in figures.items():
        for setting, readers in found['latency'].items():
            for reader, row in readers.items():
                times = f'{row["p50_ms"]:>9.2f}{row["p99_ms"]:>10.2f}'
                print(f'{size:<11}{setting:<18}{reader:<8}{times}{row["lost"]:>6}')
        print(
            f'{"":<11}times as fast, typed: by the profile {found["ratio_profile"]:.2f}, by the '
            f'memory {found["ratio_memory"]:.2f}, by both {found["ratio"]:.2f}; '
            f'raw instead of typed {found["ratio_raw"]:.2f}'
        )


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--rounds', type=int, default=200, help='images per row of the table')
    arguments.add_argument('--sizes', nargs='+', default=SIZES, help='WIDTHxHEIGHT')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    arguments.add_argument('--role', choices=tuple(ROLES), help=argparse.SUPPRESS)
    arguments.add_argument('--setting', choices=SETTINGS, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.role:
        play(args.role, args.setting)
        return
    about = machine()
    figures = measure(args.sizes, args.rounds)
    if args.json:
        print(json.dumps({'machine': about, 'sizes': figures}))
    else:
        print_table(figures)


if __name__ == '__main__':
    main()
