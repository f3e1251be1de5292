# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The nodes of the latency bench do what they are there for."""

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest

pytest.importorskip('cv2')
pytest.importorskip('torch')

from sensor_msgs.msg import Image

from benchmarks.frame_sender import CAMERA, ROLE, image_message
from benchmarks.harness import PERIOD_NS
from benchmarks.plain_node import PlainNode
from td3_agent.driving.agent import Agent
from td3_agent.driving.observation import grey_from_image, resize_area
from td3_agent.driving.vehicle import VehicleState
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import image_view, stamp_ns, time_from_ns
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.policy_file import policy_file

SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.1


def frame(number, seed):
    """Image and odometry of equal stamps."""
    image, motion = image_message(800, 600, seed), Odometry()
    image.header.stamp = motion.header.stamp = time_from_ns(number * PERIOD_NS)
    motion.pose.pose.orientation.w = 1.0
    motion.twist.twist.linear.x = SPEED_MPS
    motion.twist.twist.angular.z = YAW_RATE_RADPS
    return image, motion


def test_plain_node_drives_as_the_agent_does(ros):
    node = ros.make(PlainNode)
    answers = ros.listen(TwistStamped, topics.twist_stamped(ROLE))
    images = ros.talk(Image, topics.image(ROLE, CAMERA))
    motions = ros.talk(Odometry, topics.odometry(ROLE))
    ros.spin_until_matched()
    policy, manifest = load_checkpoint(policy_file('lane'), kind='driving')
    agent = Agent(policy, manifest.observation_spec)  # the plain node smooths nothing
    for number in range(1, 6):
        image, motion = frame(number, seed=number)
        motions.publish(motion)
        ros.spin_until(lambda m=motion: node.odometry == m, 'odometry')
        images.publish(image)
        ros.spin_until(lambda n=number: len(answers) == n, 'an answer')
        twist = answers[-1].twist
        state = VehicleState(
            stamp_ns=number * PERIOD_NS,
            x_m=0.0,
            y_m=0.0,
            z_m=0.0,
            yaw_rad=0.0,
            speed_mps=SPEED_MPS,
            yaw_rate_radps=YAW_RATE_RADPS,
        )
        wanted = agent.respond(agent.preprocess(image_view(image)), state).twist
        assert stamp_ns(answers[-1].header.stamp) == number * PERIOD_NS
        assert twist.linear.x == pytest.approx(wanted.linear_x, abs=0.3)
        assert twist.angular.z == pytest.approx(wanted.angular_z, abs=0.06)


def test_plain_node_sees_what_the_agent_sees(ros):
    node = ros.make(PlainNode)
    image = image_message(800, 600, 0)
    cut_rows = int(600 * node.spec.crop_top)
    size = (node.spec.image_height_px, node.spec.image_width_px)
    ours = resize_area(grey_from_image(image_view(image), cut_rows), *size)
    assert np.abs(node.preprocess(image).astype(int) - ours).max() <= 1
