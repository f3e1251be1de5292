# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The node that one writes first: the same policy with the usual tools, to compare with.

Typed subscriptions, NumPy and OpenCV for pixels, PyTorch as it comes, ``rclpy.spin``, no tuning
of the middleware. It answers every image with a Twist of the same stamp, by the newest odometry.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import cv2
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
import torch

from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.policy_file import policy_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SPEED = 8.33  # [m/s]
CAR = '/carla/ego_vehicle'


class PlainNode(Node):
    """Drives by a policy that sees the camera and knows speed and yaw rate."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Load the policy and subscribe; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__('plain_node', **kwargs)
        self.declare_parameter('policy', 'lane')
        name = self.get_parameter('policy').value
        policy, manifest = load_checkpoint(policy_file(name), kind='driving')
        self.actor = policy.actor
        self.spec = manifest.observation_spec
        self.frames: deque[NDArray[Any]] = deque(maxlen=self.spec.frame_stack)
        self.previous_action = np.zeros(2, dtype=np.float32)
        self.odometry: Odometry | None = None
        self.publisher = self.create_publisher(TwistStamped, f'{CAR}/twist_stamped', 10)
        self.create_subscription(Odometry, f'{CAR}/odometry', self.odometry_callback, 10)
        self.create_subscription(Image, f'{CAR}/camera/image', self.image_callback, 10)

    def odometry_callback(self, msg: Odometry) -> None:
        """Keep the newest motion."""
        self.odometry = msg

    def image_callback(self, msg: Image) -> None:
        """Answer an image, once there is a motion to go with it."""
        if self.odometry is None:
            return
        frame = self.preprocess(msg)
        while len(self.frames) < self.spec.frame_stack - 1:
            self.frames.append(frame)
        self.frames.append(frame)
        action = self.act()
        answer = TwistStamped(header=msg.header)
        answer.twist.linear.x = float(action[0] + 1.0) / 2.0 * MAX_SPEED
        answer.twist.angular.z = float(action[1])
        self.publisher.publish(answer)

    def preprocess(self, msg: Image) -> NDArray[Any]:
        """Return what the network sees of a bgra8 image, (rows, columns) uint8."""
        image = np.frombuffer(msg.data, dtype=np.uint8).reshape(msg.height, msg.width, 4)
        image = image[int(msg.height * self.spec.crop_top) :]
        grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY)
        size = (self.spec.image_width_px, self.spec.image_height_px)
        return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)

    def act(self) -> NDArray[Any]:
        """Return the policy's action, (2,) float32 in [-1, 1]."""
        motion = self.odometry.twist.twist
        state = np.array(
            [motion.linear.x / MAX_SPEED, motion.angular.z, *self.previous_action],
            dtype=np.float32,
        )
        with torch.no_grad():
            images = torch.from_numpy(np.stack(self.frames)).unsqueeze(0)
            action = self.actor(torch.from_numpy(state).unsqueeze(0), images)
        self.previous_action = action.squeeze(0).numpy()
        return self.previous_action


if __name__ == '__main__':
    rclpy.init()
    try:
        rclpy.spin(PlainNode())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
