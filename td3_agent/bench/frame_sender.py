# SPDX-License-Identifier: Apache-2.0
"""Publishes frames as the bridge does, one under way at a time, and waits for their Twists."""

from __future__ import annotations

import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns, time_from_ns
from td3_agent.nodes.qos import RELIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

ROLE, CAMERA = 'ego_vehicle', 'camera'
STEP_NS = 50_000_000
FIRST_FRAME = 10_000_000  # stamps run back from here, drive by drive
LONGEST_DRIVE_FRAMES = 100_000
SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.1
MOTIFS = 8  # different images; a block of frames goes through them again and again
COLOURS = (12, 16)  # rows and columns of different colours: as coarse as what a policy sees


@dataclass(frozen=True)
class Answer:
    """What came of one frame.

    Attributes:
        latency_ms: from before its image was published to its Twist in the callback [ms].
        linear_x: target speed [m/s].
        angular_z: yaw rate [rad/s].
    """

    latency_ms: float
    linear_x: float
    angular_z: float


class FrameSender(Node):
    """Publishes image and odometry of equal stamps and hears the TwistStamped that answers."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Offer the bridge's topics; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__(
            'frame_sender', enable_rosout=False, start_parameter_services=False, **kwargs
        )
        self._images = self.create_publisher(Image, topics.image(ROLE, CAMERA), RELIABLE)
        self._motions = self.create_publisher(Odometry, topics.odometry(ROLE), RELIABLE)
        twist_topic = topics.twist_stamped(ROLE)
        self.create_subscription(TwistStamped, twist_topic, self._on_twist, RELIABLE)
        self._motion = Odometry(child_frame_id=ROLE)
        self._motion.header.frame_id = 'map'
        self._motion.twist.twist.linear.x = SPEED_MPS
        self._motion.twist.twist.angular.z = YAW_RATE_RADPS
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._frame = self._drive_begin = FIRST_FRAME
        self._size: tuple[int, int] | None = None
        self._sent_ns = 0
        self._answer: Answer | None = None

    def close(self) -> None:
        """Give back what was taken."""
        self._executor.shutdown()
        self.destroy_node()

    def send(self, image: Image, patience_s: float) -> Answer | None:
        """Publish one frame and return what came of it; None if nothing did in time [s]."""
        self._begin_drive_of((image.height, image.width))
        self._frame += 1
        self._answer = None
        image.header.stamp = self._motion.header.stamp = time_from_ns(self._frame * STEP_NS)
        self._sent_ns = time.monotonic_ns()
        self._images.publish(image)
        self._motions.publish(self._motion)
        end_s = time.monotonic() + patience_s
        while self._answer is None and (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)
        return self._answer

    def _begin_drive_of(self, size: tuple[int, int]) -> None:
        """Let time run back before images of another size: within a drive they are refused."""
        if size != self._size:
            self._size = size
            self._drive_begin -= LONGEST_DRIVE_FRAMES
            self._frame = self._drive_begin

    def _on_twist(self, msg: TwistStamped) -> None:
        received_ns = time.monotonic_ns()
        if stamp_ns(msg.header.stamp) == self._frame * STEP_NS:  # not one of a frame given up
            latency_ms = (received_ns - self._sent_ns) / 1e6
            self._answer = Answer(latency_ms, msg.twist.linear.x, msg.twist.angular.z)


def picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Return random colours that run into each other, (height, width, 4) uint8, bgra."""
    colours = np.random.default_rng(seed).integers(0, 256, (*COLOURS, 4)).astype(np.float32)
    smooth = stretched(stretched(colours, height).swapaxes(0, 1), width).swapaxes(0, 1)
    return np.ascontiguousarray(smooth, dtype=np.uint8)


def stretched(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return (size, ...) for (n, ...): linear between the values, which lie evenly spaced."""
    at = np.linspace(0.0, len(values) - 1, size, dtype=np.float32)
    before = np.minimum(at.astype(np.intp), len(values) - 2)
    share = (at - before).reshape(-1, 1, 1)
    mixed: NDArray[np.float32] = values[before] * (1 - share) + values[before + 1] * share
    return mixed


def image_message(width: int, height: int, seed: int) -> Image:
    """Return a bgra8 picture as the camera's message."""
    image = Image(height=height, width=width, encoding='bgra8', step=4 * width)
    image.header.frame_id = f'{ROLE}/{CAMERA}'
    data = array.array('B')  # anything else is checked element by element
    data.frombytes(picture(width, height, seed).data)
    image.data = data
    return image


@lru_cache(maxsize=1)  # blocks of one size follow each other
def image_messages(width: int, height: int) -> tuple[Image, ...]:
    """Return the messages that a block goes through."""
    return tuple(image_message(width, height, seed) for seed in range(MOTIFS))


def serve(environment: Mapping[str, str], pipe: Connection[Any, Any]) -> None:
    """Send as many frames as is asked for and answer with what came of them; a process's work.

    A request is the last arguments of :func:`block`. The process ends when the pipe is closed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to act on
    os.environ.clear()
    os.environ.update(environment)
    keep_freed_memory()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    sender = FrameSender()
    try:
        while True:
            request = pipe.recv()
            # Nothing comes while a block is under way, but for the end.
            pipe.send(block(sender, lambda: not pipe.poll(), *request))
    except (EOFError, BrokenPipeError):
        return
    finally:
        sender.close()
        rclpy.try_shutdown()


def block(
    sender: FrameSender,
    is_wanted: Callable[[], bool],
    size_px: tuple[int, int],
    frames: int,
    patience_s: float,
) -> list[Answer | None]:
    """Return what came of so many frames; one that has no answer in time is lost.

    Args:
        sender: publishes them.
        is_wanted: whether to go on.
        size_px: columns and rows of the images [px].
        frames: how many.
        patience_s: how long each is waited for [s].
    """
    images = image_messages(*size_px)
    numbers = takewhile(lambda _: is_wanted(), range(frames))
    return [sender.send(images[number % MOTIFS], patience_s) for number in numbers]
