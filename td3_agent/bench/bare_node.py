# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that does nothing: what any node's start in Python takes at least."""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode


def main() -> None:
    """Be active until the process is asked to end."""
    rclpy.init()
    node = LifecycleNode('td3_agent')
    node.trigger_configure()
    node.trigger_activate()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
