# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes frames as the bridge does, one under way at a time, and waits for their Twists.

A program of its own, as each side of a comparison has its own settings of the middleware: it
answers ``[[width, height], frames, patience_s]`` with a list: an :class:`Answer` for each frame,
null where there was none in time.
"""

from __future__ import annotations

import array
from functools import lru_cache
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from benchmarks.harness import PERIOD_NS, serve
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns, time_from_ns
from td3_agent.nodes.runtime import RELIABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROLE, CAMERA = 'ego_vehicle', 'camera'
FIRST_FRAME = 10_000_000  # stamps run back from here, drive by drive
LONGEST_DRIVE_FRAMES = 100_000
SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.1
MOTIFS = 8  # different images; a block of frames goes through them again and again
COLOURS = (12, 16)  # rows and columns of different colours: as coarse as what a policy sees


class Answer(NamedTuple):
    """The response to one frame.

    Attributes:
        sent_ns: just before its image was published [ns, steady].
        received_ns: its Twist in the callback [ns, steady].
        linear_x: target speed [m/s].
        angular_z: yaw rate [rad/s].
    """

    sent_ns: int
    received_ns: int
    linear_x: float
    angular_z: float

    @property
    def latency_ms(self) -> float:
        """Time from image to Twist."""
        return (self.received_ns - self.sent_ns) / 1e6


class FrameSender(Node):
    """Publishes image and odometry of equal stamps and receives the TwistStamped of that stamp."""

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
        self._frame = self._drive_begin = FIRST_FRAME
        self._size: list[int] = []
        self._sent_ns = 0
        self._answer: Answer | None = None

    def block(self, request: tuple[list[int], int, float]) -> list[Answer | None]:
        """Publish a block of frames, as requested, and return their answers."""
        size, frames, patience_s = request
        if size != self._size:  # time runs back: within a drive another size is rejected
            self._size = size
            self._drive_begin -= LONGEST_DRIVE_FRAMES
            self._frame = self._drive_begin
        images = image_messages(*size)
        return [self._send(images[number % MOTIFS], patience_s) for number in range(frames)]

    def _send(self, image: Image, patience_s: float) -> Answer | None:
        self._frame += 1
        self._answer = None
        image.header.stamp = self._motion.header.stamp = time_from_ns(self._frame * PERIOD_NS)
        self._sent_ns = time.monotonic_ns()
        self._images.publish(image)
        self._motions.publish(self._motion)
        end_s = time.monotonic() + patience_s
        while self._answer is None and (left_s := end_s - time.monotonic()) > 0.0:
            rclpy.spin_once(self, timeout_sec=left_s)
        return self._answer

    def _on_twist(self, msg: TwistStamped) -> None:
        received_ns = time.monotonic_ns()
        if stamp_ns(msg.header.stamp) == self._frame * PERIOD_NS:  # not one of a frame given up
            twist = msg.twist
            self._answer = Answer(self._sent_ns, received_ns, twist.linear.x, twist.angular.z)


def picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Return random colours that run into each other, (height, width, 4) uint8, bgra."""
    colours = np.random.default_rng(seed).integers(0, 256, (*COLOURS, 4), dtype=np.uint8)
    return np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR))


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


if __name__ == '__main__':
    keep_freed_memory()
    rclpy.init()
    serve(FrameSender().block)
    rclpy.try_shutdown()
