# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The containers' health check sees a node, and misses one that is not there."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
from rclpy.node import Node

CHECK = Path(__file__).parents[2] / 'docker' / 'healthcheck.py'


@pytest.mark.parametrize(('name', 'status'), [('/peer', 0), ('/somebody_else', 1)])
def test_a_node_is_seen(ros, name, status):
    assert isinstance(ros.peer, Node)
    with subprocess.Popen(
        [sys.executable, CHECK, name],
        env=dict(os.environ, ROS_DOMAIN_ID=str(ros.domain_id)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        ros.spin_until(lambda: process.poll() is not None, 'the check')
        said = process.stdout.read()
    assert process.returncode == status
    assert (name in said) == bool(status)
