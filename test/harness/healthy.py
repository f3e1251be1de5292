# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine and a graph of nodes in which the doctor finds nothing."""

from __future__ import annotations

from td3_agent.doctor.facts import (
    CARLA_MSGS_HASHES,
    Copy,
    Import,
    Machine,
    Torch,
)
from td3_agent.doctor.graph_checks import (
    Graph,
    GraphEndpoint,
    GraphTopic,
    NodeStatus,
)
from td3_agent.fastdds import Profile

SITE = '/venv/lib/python3.12/site-packages'
APT = '/usr/lib/python3/dist-packages'
JAZZY = '/opt/ros/jazzy'
ROS_SITE = f'{JAZZY}/lib/python3.12/site-packages'
CONTROL = 'carla_msgs/msg/CarlaEgoVehicleControl'
ROLE = '/carla/ego_vehicle'
OTHER_HASH = 'RIHS01_' + '5' * 64
SOURCES = '/ws/src/td3_agent'
LOOPBACK = Profile(
    f'{SOURCES}/config/fastdds_loopback.xml',
    64 << 20,
    loopback_only=True,
    shares_memory=True,
    builtin=False,
)

HEALTHY = Machine(
    python=(3, 12),
    executable='/usr/bin/python3',
    environment={
        'ROS_DISTRO': 'jazzy',
        'ROS_DOMAIN_ID': '7',
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'AMENT_PREFIX_PATH': JAZZY,
        'HOME': '/home/driver',
    },
    imports={
        'numpy': Import('1.26.4', f'{APT}/numpy'),
        'yaml': Import('6.0', f'{APT}/yaml'),
        'rclpy': Import('', f'{ROS_SITE}/rclpy'),
        'geometry_msgs.msg': Import('', f'{ROS_SITE}/geometry_msgs'),
        'carla_msgs.msg': Import('', '/ws/install/carla_msgs'),
        'google.protobuf': Import('4.21.12', f'{APT}/google'),
        'cv2': Import('4.6.0', f'{APT}/cv2'),
        'carla': Import('', f'{SITE}/carla'),
        'torch': Import('2.13.0', f'{SITE}/torch'),
    },
    copies=(
        Copy('torch', '2.13.0', SITE),
        Copy('carla', '0.9.16', SITE),
        Copy('numpy', '1.26.4', APT),
        Copy('protobuf', '4.21.12', APT),
        Copy('rclpy', '7.1.6', ROS_SITE),
    ),
    ros_prefixes=('/ws/install/carla_msgs', JAZZY),
    rmw_installed=('rmw_fastrtps_cpp', 'rmw_implementation'),
    message_hashes=dict(CARLA_MSGS_HASHES),
    message_prefixes=('/ws/install/carla_msgs',),
    torch=Torch(),
    profile=LOOPBACK,
    shm_total_bytes=8 << 30,
    shm_free_bytes=8 << 30,
    disk_free_bytes=50 << 30,
    disk_folder='/results',
    checkout=SOURCES,
    config=f'{SOURCES}/config',
    user=1000,
)


def topic_of(kind: str, publisher: str, *subscriptions: str) -> GraphTopic:
    hash_ = CARLA_MSGS_HASHES.get(kind, '')
    return GraphTopic(
        (GraphEndpoint(publisher, kind, hash_),),
        tuple(GraphEndpoint(node, kind, hash_) for node in subscriptions),
    )


BRIDGE, AGENT, GATE, STEPPER = (
    '/carla_ros_bridge',
    '/td3_agent',
    '/gate',
    '/synchronizer',
)
FRAMES_NS = tuple(range(10**10, 13 * 10**9, 50_000_000))
HEALTHY_GRAPH = Graph(
    domain_id=7,
    nodes=(BRIDGE, AGENT, GATE, STEPPER),
    topics={
        '/clock': topic_of('rosgraph_msgs/msg/Clock', BRIDGE, GATE, STEPPER),
        f'{ROLE}/camera/image': topic_of('sensor_msgs/msg/Image', BRIDGE, AGENT),
        f'{ROLE}/odometry': topic_of('nav_msgs/msg/Odometry', BRIDGE, AGENT, GATE),
        f'{ROLE}/twist_stamped': topic_of('geometry_msgs/msg/TwistStamped', AGENT, GATE),
        f'{ROLE}/vehicle_control_cmd': topic_of(CONTROL, GATE, BRIDGE, STEPPER),
        '/carla/control': topic_of('carla_msgs/msg/CarlaControl', STEPPER, BRIDGE),
    },
    message_hashes=dict(CARLA_MSGS_HASHES),
    seconds=3.0,
    images_ns=FRAMES_NS[:-1],
    motions_ns=FRAMES_NS,
    statuses=(
        NodeStatus(AGENT[1:], 0, 'driving: TD3, lane'),
        NodeStatus(GATE[1:], 0, 'every frame answered'),
    ),
)
