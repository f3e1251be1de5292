# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Camera image published -> its pixels in hand in another process, over DDS.

Three settings of both processes: as they come; with the Fast DDS profile of config/; with the
profile and freed memory kept, as td3_agent's nodes do. All take turns, so that a load from
elsewhere meets each of them; there is one image under way at a time, as in lockstep. One that does
not arrive within a second is lost.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
import sys
import time
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import TwistStamped
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image

from benchmarks.frame_sender import CAMERA, ROLE
from benchmarks.harness import Program, check_least, in_turns, node_group, p50_p99_ms
from benchmarks.latency import environment_of, send
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import image_view
from td3_agent.nodes.runtime import RELIABLE, camera_qos

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from benchmarks.latency import Block
    from td3_agent.processes import ProcessGroup

PLAIN, PROFILE, MEMORY = SETTINGS = ('plain', 'profile', 'profile + memory')
SIZES = ('160x120', '800x600', '1920x1080')
WARM_UP_FRAMES = 5
BLOCK_FRAMES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--blocks', type=int, default=20, help=f'of {BLOCK_FRAMES} images each')
    parser.add_argument('--sizes', nargs='+', default=SIZES, help='WIDTHxHEIGHT')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures, by size."""
    check_least(args, blocks=1)
    found = {}
    with ExitStack() as stack:
        pairs = [stack.enter_context(pair(setting)) for setting in SETTINGS]
        for name in args.sizes:
            size = [int(number) for number in name.split('x')]
            for sender in pairs:
                send(*sender, size, WARM_UP_FRAMES)
            blocks = in_turns(
                args.blocks, *(partial(send, *sender, size, BLOCK_FRAMES) for sender in pairs)
            )
            found[name] = figures_of(dict(zip(SETTINGS, blocks, strict=True)))
    return {'sizes': found}


@contextmanager
def pair(setting: str) -> Iterator[tuple[Program, ProcessGroup]]:
    """Run receiver and sender with one setting, until the first image arrives."""
    environment = environment_of(profile=setting != PLAIN)
    with node_group(environment) as group:
        group.run('receiver', [sys.executable, '-m', 'benchmarks.image_in', setting])
        with Program('benchmarks.frame_sender', environment=environment) as sender:
            while send(sender, group, [160, 120], 1) == [None]:
                pass
            yield sender, group


def figures_of(blocks: dict[str, Sequence[Block]]) -> dict[str, Any]:
    """Return the figures of one image size, and how they compare, from the answers by setting."""
    latency = {}
    for setting, parts in blocks.items():
        answers = [answer for block in parts for answer in block]
        # The receiver's clock comes as the speed: the way back does not count.
        times_ms = [(a.linear_x - a.sent_ns) / 1e6 for a in answers if a is not None]
        latency[setting] = p50_p99_ms(times_ms) | {'lost': answers.count(None)}
    plain_ms, profile_ms, memory_ms = (latency[setting]['p50_ms'] for setting in SETTINGS)
    return {
        'latency': latency,
        'ratio_profile': plain_ms / profile_ms,
        'ratio_memory': profile_ms / memory_ms,
        'ratio': plain_ms / memory_ms,
    }


class Receiver(Node):
    """Answers every image with the time at which its pixels are in hand [ns, steady]."""

    def __init__(self) -> None:
        """Subscribe as the agent does."""
        super().__init__('receiver')
        self._answers = self.create_publisher(TwistStamped, topics.twist_stamped(ROLE), RELIABLE)
        self.create_subscription(
            Image, topics.image(ROLE, CAMERA), self._on_image, camera_qos('reliable')
        )

    def _on_image(self, msg: Image) -> None:
        image_view(msg).pixels()
        answer = TwistStamped(header=msg.header)
        answer.twist.linear.x = float(time.monotonic_ns())  # exact: below 2^53
        self._answers.publish(answer)


if __name__ == '__main__':
    if sys.argv[1] == MEMORY:
        keep_freed_memory()
    rclpy.init()
    try:
        rclpy.spin(Receiver())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()  # a process that is killed leaves its shared memory behind
