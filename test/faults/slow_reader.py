# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A second, slow subscriber of the camera: ``slow_reader.py TOPIC RELIABILITY WORK_S``.

Every image keeps it busy for so long [s]. It keeps five images as the agent does; newer ones take
the place of the oldest. After each it prints how many it has read, and how many passed it by.
"""

import sys
import time

from rclpy.node import Node
from sensor_msgs.msg import Image

from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import camera_qos, run_program

STEP_NS = 50_000_000


class SlowReader(Node):
    def __init__(self, topic, reliability, work_s):
        super().__init__('td3_agent_slow_reader')
        self._work_s = float(work_s)
        self._stamps_ns = []
        self.create_subscription(Image, topic, self._on_image, camera_qos(reliability))

    def _on_image(self, msg):
        self._stamps_ns.append(stamp_ns(msg.header.stamp))
        read = len(self._stamps_ns)
        frames = (self._stamps_ns[-1] - self._stamps_ns[0]) / STEP_NS + 1.0
        print(read, round(frames) - read, flush=True)
        time.sleep(self._work_s)  # the load: other readers must not notice


if __name__ == '__main__':
    words = sys.argv[1:]
    run_program(lambda: SlowReader(*words), args=[])
