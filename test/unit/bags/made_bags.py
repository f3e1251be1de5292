# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Bags made in the test: by the package's own writer, from rosbags' own types."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import known_types
from td3_agent.bags.record import BagWriter, RecordedTopic, WriterParams

FOREVER = QosTime(9223372036, 854775807)
ODOMETRY = '/carla/hero/odometry'
IMAGE = '/carla/hero/camera/image'
SIDE = 16
STEP_NS = 50_000_000
SHIPPED = Path(__file__).parents[2] / 'bags' / 'oval'


def qos(*, latched=False):
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return (
        Qos(
            QosHistory.KEEP_LAST,
            10,
            QosReliability.RELIABLE,
            durability,
            FOREVER,
            FOREVER,
            QosLiveliness.AUTOMATIC,
            FOREVER,
            avoid_ros_namespace_conventions=False,
        ),
    )


def make(msgtype, /, **fields):
    return known_types().types[msgtype](**fields)


def header(stamp_ns):
    time = make('builtin_interfaces/msg/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make('std_msgs/msg/Header', stamp=time, frame_id='map')


def image(stamp_ns, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    return make(
        'sensor_msgs/msg/Image',
        header=header(stamp_ns),
        height=SIDE,
        width=SIDE,
        encoding='bgra8',
        is_bigendian=0,
        step=4 * SIDE,
        data=pixels.reshape(-1),
    )


def compressed(stamp_ns, form, data):
    return make(
        'sensor_msgs/msg/CompressedImage',
        header=header(stamp_ns),
        format=form,
        data=np.frombuffer(data, dtype=np.uint8),
    )


def odometry(stamp_ns, speed_mps=1.0):
    def vector(x=0.0):
        return make('geometry_msgs/msg/Vector3', x=x, y=0.0, z=0.0)

    pose = make(
        'geometry_msgs/msg/Pose',
        position=make('geometry_msgs/msg/Point', x=0.0, y=0.0, z=0.0),
        orientation=make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0),
    )
    twist = make('geometry_msgs/msg/Twist', linear=vector(speed_mps), angular=vector())
    return make(
        'nav_msgs/msg/Odometry',
        header=header(stamp_ns),
        child_frame_id='hero',
        pose=make('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36)),
        twist=make('geometry_msgs/msg/TwistWithCovariance', twist=twist, covariance=np.zeros(36)),
    )


def write_bag(path, messages, **params):
    """Write (topic, received_ns, message) to a bag."""
    writer = BagWriter(path, WriterParams(min_free_mb=0.0, **params))
    store, known = known_types(), set()
    for topic, received_ns, message in messages:
        name = message.__msgtype__
        if topic not in known:
            known.add(topic)
            latched = topic.endswith(('waypoints', 'vehicle_info'))
            writer.add_topic(RecordedTopic(topic, name, store, qos(latched=latched)))
        writer.put(topic, received_ns, bytes(store.serialize_cdr(message, name)))
    writer.close()
    assert not writer.failure
    return path


def listing(path):
    """What a bag holds."""
    return [(m.topic.name, m.received_ns, bytes(m.data)) for m in Bag(path).messages()]


def drive(frames=12, start_ns=10**9):
    """Messages of a short drive: odometry, then image, as the recorder heard them."""
    for i in range(frames):
        stamp = start_ns + i * STEP_NS
        yield ODOMETRY, 10**18 + i * STEP_NS, odometry(stamp, 0.1 * i)
        yield IMAGE, 10**18 + i * STEP_NS + 1000, image(stamp, seed=i)
