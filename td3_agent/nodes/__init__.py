# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Thin rclpy nodes: they turn messages into values, call the pure code, and publish."""

import sys

from td3_agent.starting import begin

# While Python looks for the module that it is to run with -m: the imports of ROS come next.
if sys.argv[0] == '-m':
    begin()
