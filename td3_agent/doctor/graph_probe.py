# SPDX-License-Identifier: Apache-2.0
"""Looks at the running graph and answers with it, or with why it cannot.

A process of its own: a broken rclpy may end it. Its arguments are ``sys.path``, how long to look
[s], role name and camera id.
"""

from __future__ import annotations

from dataclasses import asdict
import os
import sys
from typing import TYPE_CHECKING

from td3_agent.doctor.gather import message_hashes
from td3_agent.doctor.probe import Channel

if TYPE_CHECKING:
    from td3_agent.doctor.facts import Graph


def main() -> None:
    """Look as the arguments say."""
    channel = Channel()
    try:
        channel.answer({'graph': asdict(_graph(*sys.argv[2:]))})
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
        channel.answer({'error': f'{type(error).__name__}: {error}'})
    os._exit(0)  # an end that crashes is not what was asked about


def _graph(seconds: str, role_name: str, camera_id: str) -> Graph:
    from td3_agent.doctor.gather_graph import gather_graph  # noqa: PLC0415  needs rclpy

    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(':')
    return gather_graph(
        float(seconds),
        role_name=role_name,
        camera_id=camera_id,
        message_hashes=message_hashes(prefixes),
    )
