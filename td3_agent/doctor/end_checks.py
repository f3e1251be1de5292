# SPDX-License-Identifier: Apache-2.0
"""Judges whether everybody who is needed is in a running graph. Pure: facts in, findings out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from td3_agent.doctor.findings import Finding, Level
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from td3_agent.doctor.facts import Endpoint, Graph

# What a bridge publishes of a vehicle: its role name, and the id of a camera.
OF_VEHICLE = re.compile(r'/carla/([^/]+)/(?:odometry|vehicle_status|vehicle_info|([^/]+)/image)')


def check_ends(graph: Graph) -> Iterator[Finding]:
    """The vehicle and its camera are there; what is listened to is said; commands are heard."""
    vehicles = _vehicles(graph)
    cameras = vehicles.get(graph.role_name)
    if vehicles and cameras is None:
        yield _other_role(graph, vehicles)  # and explains all the rest
        return
    read = [topics.odometry(graph.role_name), topics.image(graph.role_name, graph.camera_id)]
    if cameras is not None and graph.camera_id not in cameras:
        yield _other_camera(read.pop(), cameras)
    yield from _unsaid(graph, read)
    yield from _unheard(graph)
    yield from _absent(graph)


def _vehicles(graph: Graph) -> dict[str, list[str]]:
    """Return the cameras of each vehicle that somebody publishes, by role name."""
    vehicles: dict[str, list[str]] = {}
    for name, topic in sorted(graph.topics.items()):
        found = OF_VEHICLE.fullmatch(name)
        if found and topic.publishers:
            vehicles.setdefault(found[1], []).extend(filter(None, [found[2]]))
    return vehicles


def _other_role(graph: Graph, vehicles: Iterable[str]) -> Finding:
    said = f'there is no vehicle {graph.role_name} (roles seen: {", ".join(vehicles)})'
    fix = 'one role name for bridge, agent, gate, synchronizer, and here (--role-name)'
    return Finding(Level.ERROR, 'ends', said, fix)


def _other_camera(name: str, cameras: list[str]) -> Finding:
    seen = ', '.join(cameras) or 'none'
    said = f'nobody publishes {name} (cameras seen: {seen})'
    fix = 'one camera id for the objects file, the agent, and here (--camera-id)'
    return Finding(Level.ERROR, 'ends', said, fix)


def _unsaid(graph: Graph, names: list[str]) -> Iterator[Finding]:
    fix = 'check role_name, camera_id and the objects file; name the topic in the parameters'
    for name in names:
        if waiting := _waiting(graph, name):
            yield Finding(Level.ERROR, 'ends', waiting, fix)


def _unheard(graph: Graph) -> Iterator[Finding]:
    fix = "is the bridge's ego_vehicle_role_name this role? does the gate run?"
    for name in (topics.control(graph.role_name), topics.twist_stamped(graph.role_name)):
        topic = graph.topic(name)
        if topic.publishers and not topic.subscriptions:
            said = f'{names_of(topic.publishers)} publishes {name}, nobody listens'
            yield Finding(Level.ERROR, 'ends', said, fix)


def _absent(graph: Graph) -> Iterator[Finding]:
    """Yield who is waited for and is not there."""
    role = graph.role_name
    twists = (topics.twist_stamped(role), topics.twist(role))
    free = 'start synchronizer_node; a bridge that runs free (agent.launch.py) needs none'
    for who, names, fix in (
        ('agent', twists, 'start td3_agent_node, and activate it'),
        ('gate', (topics.control(role),), 'start twist_to_control_node'),
        ('synchronizer', (topics.CONTROL,), free),
        ('route', (topics.waypoints(role),), 'start route_node, or carla_waypoint_publisher'),
    ):
        waiting = [said for name in names if (said := _waiting(graph, name))]
        if waiting and not any(graph.topic(name).publishers for name in names):
            yield Finding(Level.WARNING, 'ends', f'no {who}: {waiting[0]}', fix)


def _waiting(graph: Graph, name: str) -> str:
    """Say who listens to a topic that nobody publishes; nothing where that is not so."""
    topic = graph.topic(name)
    if topic.publishers or not topic.subscriptions:
        return ''
    return f'{names_of(topic.subscriptions)} waits for {name}, nobody publishes it'


def names_of(ends: Iterable[Endpoint]) -> str:
    """Return the names of their nodes."""
    return ' and '.join(sorted(end.node for end in ends))
