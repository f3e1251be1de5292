# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a running graph for the doctor's checks, from a node that publishes nothing."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from td3_agent.doctor.graph_checks import CLI_NODES, Graph, GraphEndpoint, GraphTopic, NodeStatus
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import own_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

OWN_NAME = '_td3_agent_doctor'
CLI_DAEMON = f'{CLI_NODES}_daemon'
ENDLESS_NS = 1 << 60  # the middleware's "never"
# Matches every publisher, and slows none down.
SPECTATOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LITTLE_ENDIAN = 1
# Of a serialised message that begins with a header: four bytes of encapsulation, then its stamp.
STAMP_OFFSET = 4
LOOK_S = 0.1


def gather_graph(
    seconds: float,
    role_name: str,
    camera_id: str,
    *,
    message_hashes: Mapping[str, str],
    domain_id: int | None = None,
) -> Graph:
    """Receive messages for some seconds, then return the graph."""
    context = own_context(domain_id)
    try:
        node = rclpy.create_node(OWN_NAME, context=context, enable_rosout=False)
        received = _received(node, seconds, role_name, camera_id)
        graph = Graph(
            domain_id=context.get_domain_id(),
            nodes=_nodes(node),
            topics=_topics(node),
            role_name=role_name,
            camera_id=camera_id,
            message_hashes=dict(message_hashes),
            seconds=seconds,
            **received,
        )
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return graph


def _received(node: Node, seconds: float, role_name: str, camera_id: str) -> dict[str, Any]:
    """Spin a node for some seconds and return stamps and statuses; images stay serialised."""
    images: list[int] = []
    motions: list[int] = []
    statuses: dict[str, NodeStatus] = {}

    def keep(msg: DiagnosticArray) -> None:
        for status in msg.status:
            kept = NodeStatus(status.name, status.level[0], status.message)
            statuses[status.name] = kept

    for kind, topic, stamps in (
        (Image, topics.image(role_name, camera_id), images),
        (Odometry, topics.odometry(role_name), motions),
    ):
        node.create_subscription(
            kind, topic, lambda raw, kept=stamps: kept.append(stamp_of(raw)), SPECTATOR, raw=True
        )
    node.create_subscription(DiagnosticArray, '/diagnostics', keep, SPECTATOR)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0.0:
        executor.spin_once(timeout_sec=min(LOOK_S, left_s))
    executor.remove_node(node)
    executor.shutdown(timeout_sec=1.0)
    stamps_ns = {'images_ns': tuple(images), 'motions_ns': tuple(motions)}
    return {**stamps_ns, 'statuses': tuple(statuses.values())}


def stamp_of(raw: bytes) -> int:
    """Return the header's stamp of a serialised message [ns]."""
    order = '<' if raw[1] == LITTLE_ENDIAN else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', raw, STAMP_OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds)


def _nodes(node: Node) -> tuple[str, ...]:
    found = node.get_node_names_and_namespaces()
    return tuple(
        _full_name(*pair) for pair in found if not pair[0].startswith((OWN_NAME, CLI_NODES))
    )


def _topics(node: Node) -> dict[str, GraphTopic]:
    found = {}
    for name, _ in node.get_topic_names_and_types():
        publishers = _endpoints(node.get_publishers_info_by_topic(name))
        subscriptions = _endpoints(node.get_subscriptions_info_by_topic(name))
        if publishers or subscriptions:
            found[name] = GraphTopic(publishers, subscriptions)
    return found


def _endpoints(infos: list[TopicEndpointInfo]) -> tuple[GraphEndpoint, ...]:
    # A command by hand is a publisher like any other; the daemon only reads.
    meant = [info for info in infos if not info.node_name.startswith((OWN_NAME, CLI_DAEMON))]
    return tuple(map(_endpoint, meant))


def _endpoint(info: TopicEndpointInfo) -> GraphEndpoint:
    qos = info.qos_profile
    deadline_ns = qos.deadline.nanoseconds
    return GraphEndpoint(
        node=_full_name(info.node_name, info.node_namespace),
        kind=info.topic_type,
        type_hash=_hash(getattr(info, 'topic_type_hash', None)),  # from Iron on
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        latched=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        deadline_ns=deadline_ns if 0 < deadline_ns < ENDLESS_NS else 0,
    )


def _hash(value: Any) -> str:  # noqa: ANN401  a type that Humble does not have
    text = '' if value is None else str(value)
    return text if text.removeprefix('RIHS01_').strip('0') else ''  # all zero: not known


def _full_name(name: str, namespace: str) -> str:
    return f'{namespace.rstrip("/")}/{name}'
