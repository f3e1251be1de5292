# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Any message, any parameter: the result is within its limits, or it is rejected."""

import dataclasses
import json
import math

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, PoseStamped, Twist
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
import pytest
from sensor_msgs.msg import Image

from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.reports import AGENT_FIELDS
from td3_agent.driving.synchronizer import SynchronizerParams
from td3_agent.driving.vehicle import (
    MAX_COORDINATE_M,
    MAX_SPEED_MPS,
    MAX_YAW_RATE_RADPS,
    VehicleState,
)
from td3_agent.nodes.conversions import (
    checked_control,
    fields_from_report,
    geometry_from_info,
    goal_from_pose,
    image_view,
    place_from_pose,
    state_from_odometry,
    velocity_from_twist,
)
from td3_agent.nodes.parameters import GateParams, Td3AgentParams
from td3_agent.nodes.route_node import RouteNodeParams
from td3_agent.nodes.sim_bridge_params import SimBridgeParams

FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e30, -1e-300])
FLOATS32 = st.floats(width=32, allow_nan=True, allow_infinity=True)
INT32, UINT32 = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
SMALL = st.integers(0, 70)


@given(st.lists(FLOATS, min_size=9, max_size=9), INT32, UINT32, st.text(max_size=300))
def test_odometry_is_a_state_within_limits_or_rejected(numbers, sec, nanosec, frame_id):
    msg = Odometry()
    msg.header.stamp.sec, msg.header.stamp.nanosec = sec, nanosec
    msg.header.frame_id = frame_id
    position, q, twist = msg.pose.pose.position, msg.pose.pose.orientation, msg.twist.twist
    position.x, position.y, position.z, q.x, q.y, q.z, q.w = numbers[:7]
    twist.linear.x, twist.angular.z = numbers[7:]
    try:
        state = state_from_odometry(msg)
    except ValueError:
        return
    assert isinstance(state, VehicleState)
    assert state.stamp_ns >= 0
    assert max(abs(state.x_m), abs(state.y_m), abs(state.z_m)) <= MAX_COORDINATE_M
    assert abs(state.speed_mps) <= MAX_SPEED_MPS
    assert abs(state.yaw_rate_radps) <= MAX_YAW_RATE_RADPS
    assert abs(state.yaw_rad) <= 2.0 * math.pi


@given(
    UINT32 | SMALL, UINT32 | SMALL, UINT32 | SMALL, st.text(max_size=8) | st.just('bgra8'), SMALL
)
def test_image_is_as_large_as_its_data_or_rejected(height, width, step, encoding, size):
    msg = Image(height=height, width=width, step=step, encoding=encoding, data=bytes(size))
    try:
        pixels = image_view(msg).pixels()
    except ValueError:
        return
    assert pixels.shape[:2] == (height, width)
    assert pixels.nbytes <= size


@given(FLOATS32, FLOATS32, FLOATS32)
def test_control_is_finite_or_rejected(throttle, steer, brake):
    msg = CarlaEgoVehicleControl(throttle=throttle, steer=steer, brake=brake)
    try:
        assert checked_control(msg).is_finite
    except ValueError:
        assert not all(map(math.isfinite, (throttle, steer, brake)))


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS32), max_size=6))
def test_geometry_is_that_of_a_road_vehicle_or_rejected(wheels):
    msg = CarlaEgoVehicleInfo()
    for x, y, angle in wheels:
        wheel = CarlaEgoVehicleInfoWheel(max_steer_angle=angle)
        wheel.position.x, wheel.position.y = x, y
        msg.wheels.append(wheel)
    try:
        geometry = geometry_from_info(msg, 2.8)
    except ValueError:
        return
    assert 0.5 <= geometry.wheelbase_m <= 20.0
    assert 0.05 <= geometry.max_steer_angle_rad <= 1.57


@given(FLOATS, FLOATS, st.text(max_size=300) | st.just('map'))
def test_goal_is_on_earth_and_on_the_map_or_rejected(x_m, y_m, frame_id):
    msg = PoseStamped()
    msg.header.frame_id = frame_id
    msg.pose.position.x, msg.pose.position.y = x_m, y_m
    try:
        goal = goal_from_pose(msg)
    except ValueError:
        return
    assert frame_id in {'map', 'carla_map'}
    assert max(map(abs, goal)) <= MAX_COORDINATE_M


@given(st.lists(FLOATS, min_size=6, max_size=6))
def test_places_and_velocities_are_those_of_a_vehicle_or_rejected(numbers):
    pose, twist = Pose(), Twist()
    pose.position.x, pose.position.y, pose.orientation.z, pose.orientation.w = numbers[:4]
    twist.linear.x, twist.angular.z = numbers[4:]
    assert all(map(math.isfinite, taken_from(place_from_pose, pose)))
    assert all(map(math.isfinite, taken_from(velocity_from_twist, twist)))


def taken_from(convert, msg):
    """Result of a conversion, empty after a rejection."""
    try:
        return convert(msg)
    except ValueError:
        return ()


JSON = st.recursive(
    st.none() | st.booleans() | FLOATS | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*AGENT_FIELDS, 'stamp_ns', 'self']), JSON))
def test_report_is_plain_finite_json_or_rejected(facts):
    values = [KeyValue(key=key, value=json.dumps(value)) for key, value in facts.items()]
    msg = DiagnosticArray(status=[DiagnosticStatus(values=values)])
    try:
        found = fields_from_report(msg, AGENT_FIELDS)
    except ValueError:
        return
    assert found.keys() <= AGENT_FIELDS.keys()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


ANYTHING = (
    st.none() | st.booleans() | FLOATS | st.integers() | st.text(max_size=9) | st.lists(st.text())
)
FIELDS = [
    (cls, spec)
    for cls in (
        RouteNodeParams,
        Td3AgentParams,
        GateParams,
        SynchronizerParams,
        SimBridgeParams,
    )
    for spec in dataclasses.fields(cls)
]


@pytest.mark.parametrize(
    ('cls', 'spec'), FIELDS, ids=[f'{cls.__name__}.{spec.name}' for cls, spec in FIELDS]
)
@settings(max_examples=25)
@given(value=ANYTHING)
def test_parameter_is_within_its_limits_or_rejected_by_name(cls, spec, value):
    try:
        taken = getattr(cls(**{spec.name: value}), spec.name)
    except ParameterError as error:
        told = str(error)
    else:
        told = ''
    if told:
        assert spec.name in told or 'must' in told
        return
    assert type(taken) is type(spec.default)
    low, high, choices = (spec.metadata[name] for name in ('low', 'high', 'choices'))
    if isinstance(taken, (int, float)) and not isinstance(taken, bool):
        assert math.isfinite(taken)
        assert low is None or taken >= low
        assert high is None or taken <= high
    assert not choices or taken in choices
