# SPDX-License-Identifier: Apache-2.0
"""A second reader of the camera that takes its time, in a process of its own.

``python -m td3_agent.faults.slow_reader TOPIC RELIABILITY WORK_S``: every image keeps it busy for
so long [s]. It keeps five images as the agent does; what comes meanwhile takes the place of the
oldest. A line on standard input is answered with what it has read and missed so far, in JSON;
it ends when its input does.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING

from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image

from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import camera_qos, run_program

if TYPE_CHECKING:
    from typing import Any

STEP_NS = 50_000_000


class SlowReader(Node):
    """Counts the frames that it has read, and those that passed it by."""

    def __init__(self, topic: str, reliability: str, work_s: float, **kwargs: Any) -> None:  # noqa: ANN401
        """Read ``topic``; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__('td3_agent_slow_reader', **kwargs)
        self.finished = Future()
        self._work_s = work_s
        self._read = self._missed = 0
        self._last_ns: int | None = None
        self.create_subscription(Image, topic, self._on_image, camera_qos(reliability))
        threading.Thread(target=self._answer, name='input', daemon=True).start()

    def _on_image(self, msg: Image) -> None:
        stamp = stamp_ns(msg.header.stamp)
        if self._last_ns is not None:
            self._missed += max(round((stamp - self._last_ns) / STEP_NS) - 1, 0)
        self._last_ns = stamp
        self._read += 1
        time.sleep(self._work_s)  # the load: whoever else reads must not notice

    def _answer(self) -> None:
        for _ in sys.stdin:
            print(json.dumps({'read': self._read, 'missed': self._missed}), flush=True)
        self.finished.set_result(None)


def main() -> None:
    """Read until the input ends."""
    topic, reliability, work_s = sys.argv[1:4]
    run_program(lambda: SlowReader(topic, reliability, float(work_s)), args=[])


if __name__ == '__main__':
    main()
