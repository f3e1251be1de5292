#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ends with 0 if a node is in the graph: ``healthcheck.py /td3_agent``.

For Docker and Kubernetes. A process that hangs before it has made its node, or that other nodes
cannot discover, is not healthy even if it runs.
"""

from __future__ import annotations

import sys
import time

import rclpy

PATIENCE_S = 6.0
LOOK_S = 0.05


def main() -> int:
    """Look for the node that the argument names."""
    wanted = sys.argv[1]
    rclpy.init(args=[])
    node = rclpy.create_node('_healthcheck', enable_rosout=False)
    end_s = time.monotonic() + PATIENCE_S
    names: set[str] = set()
    while wanted not in names and time.monotonic() < end_s:
        rclpy.spin_once(node, timeout_sec=LOOK_S)
        found = node.get_node_names_and_namespaces()
        names = {f'{namespace.rstrip("/")}/{name}' for name, namespace in found}
    node.destroy_node()
    rclpy.try_shutdown()
    if wanted in names:
        return 0
    print(f'{wanted} is not in the graph; there are: {", ".join(sorted(names))}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
