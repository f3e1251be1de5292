# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases with invalid messages: each is rejected by field, and the car stopped."""

import math

from faults.by_hand import BridgeByHand
from harness.messages import SIDE_PX
from harness.programs import resources
from harness.rig import LONGEST_NAMING_S
from harness.watcher import is_stop
import pytest

from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode

DEADLINE_S = 0.15  # of the gate: every rejected frame takes this long
PATIENT_NS = 5_000_000_000  # if the stop is not under test
MOST_GROWTH_MB = 24.0
BYTES = 4 * SIDE_PX * SIDE_PX  # of a good image
ODOMETRY_FIELDS = {
    'pose.pose.position.x': 'x_m',
    'pose.pose.position.y': 'y_m',
    'pose.pose.position.z': 'z_m',
    'pose.pose.orientation.z': 'orientation',
    'twist.twist.linear.x': 'speed_mps',
    'twist.twist.angular.z': 'yaw_rate_radps',
}
ODOMETRY = [  # changed fields, and the name with which they are rejected
    *(
        ({field: bad}, name)
        for field, name in ODOMETRY_FIELDS.items()
        for bad in (math.nan, math.inf, -math.inf, 1e30)
        if (name, bad) != ('orientation', 1e30)  # still a direction
    ),
    ({'pose.pose.orientation.w': 0.0}, 'orientation'),
    ({'header.stamp.nanosec': 10**9}, 'stamp.nanosec'),
    ({'header.stamp.sec': -1}, 'stamp.sec'),
    ({'header.frame_id': ''}, 'header.frame_id'),
]
ENCODINGS = [
    ({'encoding': encoding}, 'encoding')
    for encoding in ('16UC1', '32FC1', '8UC3', 'yuv422', 'bayer_rggb8', 'BGRA8', '')
]
SIZES = [
    ({'data': bytes(BYTES - 1)}, 'data'),
    ({'data': b''}, 'data'),
    ({'data': bytes(BYTES + 1)}, 'data'),
    ({'data': bytes(40 * BYTES)}, 'data'),
    ({'height': 0, 'width': 0, 'step': 0, 'data': b''}, 'height'),
    ({'width': 0}, 'width'),
    ({'height': 65535, 'width': 65535, 'step': 4 * 65535}, 'height'),
    ({'height': 8192, 'width': 8192, 'step': 4 * 8192}, 'data'),
    ({'height': 2**32 - 1, 'width': 1, 'step': 4}, 'height'),
    ({'step': 2**32 - 1}, 'data'),
    ({'step': 1}, 'step'),
    ({'height': 42, 'data': bytes(BYTES // 2)}, 'height, width'),  # resolution changed
]


@pytest.mark.case('F10', 'odometry that is no number, or of no time')
def test_odometry_not_finite(rig):
    odometry = ODOMETRY[::4] + ODOMETRY[-4:] if rig.quick else ODOMETRY
    expect_rejected(rig, 'odometry', odometry, 'speed_mps', {'twist.twist.linear.x': math.nan})


@pytest.mark.case('F12', 'image encodings that no policy knows')
def test_image_encodings(rig):
    expect_rejected(rig, 'image', ENCODINGS, '16UC1', {'encoding': '16UC1'})


@pytest.mark.case('F13', 'image sizes that its data does not have')
def test_image_sizes(rig):
    """They are rejected before any allocation."""
    expect_rejected(rig, 'image', SIZES, 'data must hold', {'data': b''})
    assert rig.figures['memory_grown_mb'] <= MOST_GROWTH_MB


def expect_rejected(rig, topic, changes, word, example):
    """Give bad frames: each is rejected by field name, and the car is stopped for it.

    Diagnostics name ``example`` in time, and good frames are driven by again afterwards.
    """
    ros = rig.nodes()
    bridge = BridgeByHand(ros)
    gate = ros.make(GateNode, deadline_s=DEADLINE_S, silence_s=60.0)
    agent = ros.make(Td3AgentNode, driver='pure_pursuit')
    reasons, rejections = [], agent.wiring.rejections
    reject = rejections.reject

    def note(topic, reason):
        reasons.append(str(reason))
        reject(topic, reason)

    rejections.reject = note
    bridge.wait_until_driving()
    before_mb = resources()['rss_mb']
    for fields, name in changes:
        reasons.clear()
        command = bridge.answered(bridge.give(**{topic: fields}))
        ros.within(lambda: reasons, 1.0)
        assert name in ' '.join(reasons), f'rejected by name: {str(fields)[:200]}'
        assert is_stop(command), f'stops the car: {str(fields)[:200]}'
    rig.figures['memory_grown_mb'] = round(resources()['rss_mb'] - before_mb, 1)
    ros.within(lambda: False, 1.1)  # earlier rejections are outdated by then
    bridge.give(**{topic: example})
    named_s = ros.within(lambda: bridge.status.faulty('td3_agent: inputs', word), LONGEST_NAMING_S)
    assert named_s is not None, f'"{word}" is diagnosed'
    gate.gate.deadline_ns = PATIENT_NS
    assert not any(map(is_stop, bridge.drive(5))), 'five good frames afterwards'
    bridge.expect_sound()
    rig.figures |= {'frames': bridge.frame, 'rejected': rejections.count}


@pytest.mark.case('F10', 'three bad odometries in a row, free-running')
def test_three_bad_odometries_stop_a_free_running_car(rig):
    """Only the count of rejections stops it."""
    ros = rig.nodes()
    bridge = BridgeByHand(ros)
    ros.make(GateNode, mode='free_running', deadline_s=500.0, bridge_wait_s=600.0)
    settings = {'mode': 'free_running', 'driver': 'pure_pursuit', 'max_frame_age_s': 60.0}
    agent = ros.make(Td3AgentNode, **settings)
    ros.spin_until(bridge.path_pub.get_subscription_count, 'the agent')
    ros.spin_until(bridge.drives, 'driving')
    for count in range(1, 4):
        assert not is_stop(bridge.commands[-1]), f'drives after {count - 1}'
        bridge.give(odometry={'twist.twist.linear.x': math.nan})
        ros.spin_until(lambda n=count: agent.wiring.rejections.count >= n, 'rejected')
        received = len(bridge.commands)
        ros.within(lambda n=received: len(bridge.commands) >= n + 3, 1.0)
    assert is_stop(bridge.commands[-1])
    assert ros.within(lambda: bridge.status.faulty('td3_agent', 'speed_mps'), 1.0), (
        'the agent says why'
    )
    ros.spin_until(bridge.drives, 'driving again')
