# SPDX-License-Identifier: Apache-2.0
"""Message fields at the edge: what no sensor says is refused by name, value and limit."""

import array
import math
import tracemalloc

from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
    CarlaLaneInvasionEvent,
)
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
import pytest
from sensor_msgs.msg import Image

from td3_agent.nodes.conversions import (
    checked_control,
    crossed_markings,
    geometry_from_info,
    header_stamp_ns,
    image_view,
    route_from_path,
    state_from_odometry,
)


def odometry(**fields):
    msg = Odometry()
    msg.header.frame_id = 'map'
    msg.pose.pose.orientation.w = 1.0
    for path, value in fields.items():
        *parents, name = path.split('__')
        part = msg
        for parent in parents:
            part = getattr(part, parent)
        setattr(part, name, value)
    return msg


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize(
    ('path', 'name'),
    [
        ('pose__pose__position__x', 'x_m'),
        ('pose__pose__position__y', 'y_m'),
        ('pose__pose__position__z', 'z_m'),
        ('twist__twist__linear__x', 'speed_mps'),
        ('twist__twist__angular__z', 'yaw_rate_radps'),
    ],
)
def test_odometry_that_no_vehicle_has_is_refused_by_field(path, name, bad):
    with pytest.raises(ValueError, match=f'{name} must be finite and within'):
        state_from_odometry(odometry(**{path: bad}))


@pytest.mark.parametrize('component', 'xyzw')
@pytest.mark.parametrize('bad', [math.nan, math.inf, 1e200])
def test_orientation_that_is_none_is_refused(component, bad):
    with pytest.raises(ValueError, match='orientation must be a finite non-zero quaternion'):
        state_from_odometry(odometry(**{f'pose__pose__orientation__{component}': bad}))


@pytest.mark.parametrize(
    ('fields', 'text'),
    [
        ({'header__frame_id': ''}, 'header.frame_id must have 1 to 255 characters, got 0'),
        ({'header__frame_id': 'x' * 256}, 'got 256'),
        ({'header__stamp__sec': -1}, r'stamp.sec must be >= 0 \[s\], got -1'),
        ({'header__stamp__nanosec': 10**9}, r'stamp.nanosec must be in \[0, 1e9\) \[ns\]'),
        ({'pose__pose__orientation__w': 0.0}, 'orientation'),
    ],
)
def test_headers_and_orientations_are_checked(fields, text):
    with pytest.raises(ValueError, match=text):
        state_from_odometry(odometry(**fields))


def test_good_header_gives_its_stamp():
    msg = odometry(header__stamp__sec=3, header__stamp__nanosec=7)
    assert header_stamp_ns(msg.header) == 3_000_000_007


@pytest.mark.parametrize(
    'fields',
    [
        {'height': 65535, 'width': 65535, 'step': 4 * 65535},
        {'height': 8192, 'width': 8192, 'step': 4 * 8192},
        {'height': 2**32 - 1, 'width': 1, 'step': 4},
        {'height': 0, 'width': 0, 'step': 0},
        {'encoding': 'x' * 10**6, 'height': 8192, 'width': 8192},
    ],
    ids=str,
)
def test_no_memory_is_taken_for_what_a_header_claims(fields):
    msg = Image(**({'encoding': 'bgra8'} | fields), data=array.array('B', bytes(64)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r'must') as refusal:
            image_view(msg)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert len(str(refusal.value)) < 200


def path(points):
    msg = Path()
    for x, y in points:
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y = float(x), float(y)
        msg.poses.append(pose)
    return msg


@pytest.mark.parametrize('bad', [math.nan, math.inf, 1e30, -1e8])
@pytest.mark.parametrize('axis', [0, 1])
def test_route_point_that_is_nowhere_on_earth_is_named(bad, axis):
    points = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    points[1][axis] = bad
    with pytest.raises(ValueError, match=r'position of poses\[1\] must be finite'):
        route_from_path(path(points))


def test_endless_lists_are_refused_before_anything_is_made_of_them():
    pose, wheel = PoseStamped(), CarlaEgoVehicleInfoWheel(max_steer_angle=1.0)
    with pytest.raises(ValueError, match='poses must have at most 100000 elements, got 100001'):
        route_from_path(Path(poses=[pose] * 100_001))
    with pytest.raises(ValueError, match=r'vehicle_info.wheels must have at most 64 elements'):
        geometry_from_info(CarlaEgoVehicleInfo(wheels=[wheel] * 65), 2.8)
    with pytest.raises(ValueError, match='crossed_lane_markings must have at most 64 elements'):
        crossed_markings(CarlaLaneInvasionEvent(crossed_lane_markings=[1] * 65))
    assert crossed_markings(CarlaLaneInvasionEvent(crossed_lane_markings=[1, 2])) == [1, 2]


@pytest.mark.parametrize('field', ['throttle', 'steer', 'brake'])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_control_that_is_not_finite_is_refused(field, bad):
    with pytest.raises(ValueError, match='throttle, steer and brake must be finite'):
        checked_control(CarlaEgoVehicleControl(**{field: bad}))
