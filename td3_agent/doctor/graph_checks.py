# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a running graph. Pure: facts in, faults out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
import re
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import ERROR, WARNING
from td3_agent.doctor.network_checks import programs
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from td3_agent.doctor.facts import Checks, Fault, Faults, Participant

CLOCK = '/clock'
AGENT = 'td3_agent'  # name of its node
CLI_NODES = '_ros2cli'  # how the names of the ros2 command's nodes begin
MANUAL_OVERRIDE = 'vehicle_control_manual_override'
# Logs, parameters and diagnostics: every node has them.
COMMON = ('/rosout', '/parameter_events', '/diagnostics')
# Topics of a bridge that name a vehicle's role and the id of a camera.
OF_VEHICLE = re.compile(r'/carla/([^/]+)/(?:odometry|vehicle_status|vehicle_info|([^/]+)/image)')
LEAST_FRAMES = 6  # stopped frames take 0.4 s each: few fit into some seconds
LEVELS = {1: WARNING, 2: ERROR, 3: ERROR}  # of diagnostic_msgs


@dataclass(frozen=True)
class GraphEndpoint:
    """One publisher or subscription of a graph."""

    node: str  # full name
    kind: str  # message type
    type_hash: str = ''  # of the message type; empty where the middleware does not tell
    reliable: bool = True  # RELIABLE, else BEST_EFFORT
    latched: bool = False  # TRANSIENT_LOCAL, else VOLATILE
    deadline_ns: int = 0  # 0: no deadline


@dataclass(frozen=True)
class GraphTopic:
    """Publishers and subscriptions of one topic."""

    publishers: tuple[GraphEndpoint, ...] = ()
    subscriptions: tuple[GraphEndpoint, ...] = ()


@dataclass(frozen=True)
class NodeStatus:
    """A status on /diagnostics, of a node or of a part of one."""

    name: str
    level: int  # of diagnostic_msgs/DiagnosticStatus: 0 is well, 1 a warning, 2 and 3 errors
    message: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes, topics and messages of a running graph."""

    domain_id: int
    nodes: tuple[str, ...] = ()  # full names, as often as there are nodes of that name
    topics: dict[str, GraphTopic] = field(default_factory=dict)
    role_name: str = 'ego_vehicle'
    camera_id: str = 'camera'
    message_hashes: dict[str, str] = field(default_factory=dict)  # as in Machine
    participants: tuple[Participant, ...] = ()
    seconds: float = 0.0  # for how long messages were received [s]
    images_ns: tuple[int, ...] = ()  # stamps
    motions_ns: tuple[int, ...] = ()  # stamps of the odometry
    statuses: tuple[NodeStatus, ...] = ()  # the last of each node and part

    def topic(self, name: str) -> GraphTopic:
        """Return a topic, empty if the graph has no such topic."""
        return self.topics.get(name, GraphTopic())


def check_nodes(graph: Graph) -> Faults:
    """The graph has nodes, each with a name of its own."""
    if not graph.nodes:
        yield _no_nodes(graph)
    for name in sorted(name for name, count in Counter(graph.nodes).items() if count > 1):
        fix = 'end one of them, or give them namespaces'
        yield ERROR, f'several nodes are called {name}', fix
    return ', '.join(sorted(graph.nodes))


def _no_nodes(graph: Graph) -> Fault:
    """Name the domains of this machine that have nodes."""
    by_domain: dict[int, list[Participant]] = {}
    for one in graph.participants:
        by_domain.setdefault(one.domain_id, []).append(one)
    said = f'domain {graph.domain_id} has no nodes'
    if here := by_domain.pop(graph.domain_id, None):
        said = f'domain {graph.domain_id} has {programs(here)}, but discovery found no node'
        fix = 'look longer (--seconds 10); compare discovery, middleware and user of both'
        return ERROR, said, fix
    for domain_id, others in sorted(by_domain.items()):
        said += f'; domain {domain_id} has {programs(others)}'
    fix = 'start the system, or export the ROS_DOMAIN_ID that it runs in'
    if len(by_domain) == 1:
        fix = f'export ROS_DOMAIN_ID={next(iter(by_domain))}, or start the system here'
    return ERROR, said, fix


def check_clock(graph: Graph) -> Faults:
    """Exactly one publisher of simulated time."""
    names = names_of(graph.topic(CLOCK).publishers)
    if not names:
        fix = 'start the bridge (or the embedded one), or a bag with --clock'
        yield WARNING, '/clock has no publisher', fix
    elif len(graph.topic(CLOCK).publishers) > 1:
        fix = 'one simulator or bag per domain: end the other, or give it a domain of its own'
        yield ERROR, f'/clock is published by {names}: time jumps back and forth', fix
    return f'published by {names}'


def check_publishers(graph: Graph) -> Faults:
    """Each exclusive topic has exactly one publisher."""
    role = graph.role_name
    single = {
        topics.control(role): 'end all but the gate (carla_manual_control and '
        'carla_twist_to_control must not run)',
        topics.twist(role): 'end all but one agent',
        topics.twist_stamped(role): 'end all but one agent',
        topics.odometry(role): 'end all but one bridge',
        topics.image(role, graph.camera_id): 'end all but one bridge',
        topics.CONTROL: 'end all but one synchronizer',
    }
    for name, fix in single.items():
        if len(publishers := graph.topic(name).publishers) > 1:
            yield ERROR, f'{name} is published by {names_of(publishers)}', fix
    return 'no exclusive topic has two publishers'


def check_endpoints(graph: Graph) -> Faults:
    """The vehicle and its camera exist; each topic in use has a publisher and a subscription."""
    vehicles = _vehicles(graph)
    cameras = vehicles.get(graph.role_name)
    if vehicles and cameras is None:  # which explains all other findings
        said = f'no vehicle {graph.role_name} (role names seen: {", ".join(vehicles)})'
        fix = 'one role name for bridge, agent, gate, synchronizer, and here (--role-name)'
        yield ERROR, said, fix
        return ''
    read = [topics.odometry(graph.role_name), topics.image(graph.role_name, graph.camera_id)]
    if cameras is not None and graph.camera_id not in cameras:
        said = f'{read.pop()} has no publisher (cameras seen: {", ".join(cameras) or "none"})'
        fix = 'one camera id for the objects file, the agent, and here (--camera-id)'
        yield ERROR, said, fix
    fix = 'check role_name, camera_id and the objects file; name the topic in the parameters'
    for name in read:
        if waiting := _waiting(graph, name):
            yield ERROR, waiting, fix
    yield from _without_subscription(graph)
    yield from _missing_nodes(graph)
    return ''


def _vehicles(graph: Graph) -> dict[str, list[str]]:
    """Return the cameras of each vehicle that is published, by role name."""
    vehicles: dict[str, list[str]] = {}
    for name, topic in sorted(graph.topics.items()):
        found = OF_VEHICLE.fullmatch(name)
        if found and topic.publishers:
            vehicles.setdefault(found[1], []).extend(filter(None, [found[2]]))
    return vehicles


def _without_subscription(graph: Graph) -> Iterable[Fault]:
    fix = "is the bridge's ego_vehicle_role_name this role? does the gate run?"
    for name in (topics.control(graph.role_name), topics.twist_stamped(graph.role_name)):
        topic = graph.topic(name)
        if topic.publishers and not topic.subscriptions:
            said = f'{names_of(topic.publishers)} publishes {name}, which has no subscription'
            yield ERROR, said, fix


def _missing_nodes(graph: Graph) -> Iterable[Fault]:
    """Yield each node that others wait for and that does not exist."""
    role = graph.role_name
    twists = (topics.twist_stamped(role), topics.twist(role))
    free = 'start synchronizer_node; a free-running bridge (agent.launch.py) needs none'
    for missing, names, fix in (
        ('agent', twists, 'start td3_agent_node, and activate it'),
        ('gate', (topics.control(role),), 'start gate_node'),
        ('synchronizer', (topics.CONTROL,), free),
        ('route', (topics.waypoints(role),), 'start route_node, or carla_waypoint_publisher'),
    ):
        waiting = [said for name in names if (said := _waiting(graph, name))]
        if waiting and not any(graph.topic(name).publishers for name in names):
            yield WARNING, f'no {missing}: {waiting[0]}', fix


def _waiting(graph: Graph, name: str) -> str:
    """Name the nodes that subscribe to a topic without publisher; empty if it has one."""
    topic = graph.topic(name)
    if topic.publishers or not topic.subscriptions:
        return ''
    return f'{names_of(topic.subscriptions)} waits for {name}, which has no publisher'


def names_of(ends: Iterable[GraphEndpoint]) -> str:
    return ' and '.join(sorted(end.node for end in ends))


def check_qos(graph: Graph) -> Faults:
    """Each publisher offers what each subscription of its topic requires."""
    for name, topic in sorted(graph.topics.items()):
        for reader in topic.subscriptions:
            for writer in topic.publishers:
                if name not in COMMON and (found := _mismatch(graph, name, writer, reader)):
                    why, fix = found
                    said = f'{name}: {reader.node} receives nothing from {writer.node}, {why}'
                    yield ERROR, said, fix
    return f'{len(graph.topics)} topics, all publishers and subscriptions match'


def _mismatch(
    graph: Graph, name: str, writer: GraphEndpoint, reader: GraphEndpoint
) -> tuple[str, str] | None:
    """Return why the two do not match and the fix; None where they do (DDS 1.4, 2.2.3)."""
    if reader.reliable and not writer.reliable:
        fix = 'give both ends the same reliability'
        if name == topics.image(graph.role_name, graph.camera_id) and _name(reader) == AGENT:
            fix = 'camera_reliability:=best_effort for td3_agent_node'
        return 'which offers best effort where reliable is required', fix
    if reader.latched and not writer.latched:
        fix = 'give both ends the same durability'
        by_hand = _name(writer).startswith(CLI_NODES)
        if by_hand or name == topics.of(graph.role_name, MANUAL_OVERRIDE):
            fix = 'publish transient local (ros2 topic pub --qos-durability transient_local)'
        return 'which offers volatile where transient local is required', fix
    if reader.deadline_ns and not 0 < writer.deadline_ns <= reader.deadline_ns:
        return 'which offers a longer deadline than required', 'give both the same deadline'
    return None


def _name(end: GraphEndpoint) -> str:
    return end.node.rpartition('/')[2]


def check_types(graph: Graph) -> Faults:
    """Each topic has one message type, of one definition."""
    for name, topic in sorted(graph.topics.items()):
        ends = (*topic.publishers, *topic.subscriptions)
        kinds = sorted({end.kind for end in ends})
        if len(kinds) > 1:
            fix = 'two sensors or nodes share a topic name: rename one'
            yield ERROR, f'{name} has the types {" and ".join(kinds)}', fix
        elif kinds:
            yield from _hash_faults(graph, name, kinds[0], ends)
    return 'one type and one definition for each topic'


def _hash_faults(
    graph: Graph, name: str, kind: str, ends: tuple[GraphEndpoint, ...]
) -> Iterable[Fault]:
    by_hash: dict[str, list[str]] = {}
    for end in ends:
        if end.type_hash:
            by_hash.setdefault(end.type_hash, []).append(end.node)
    fix = 'build all from the same message package, and source that one everywhere'
    if len(by_hash) > 1:
        sides = ' and '.join(', '.join(sorted(set(nodes))) for nodes in by_hash.values())
        yield ERROR, f'{name}: {sides} have different definitions of {kind}', fix
    elif by_hash and graph.message_hashes.get(kind, next(iter(by_hash))) not in by_hash:
        yield WARNING, f'{name}: the definition of {kind} is not the one installed here', fix


def check_frames(graph: Graph) -> Faults:
    """Images and odometry arrive and pair into frames."""
    images, motions = graph.images_ns, graph.motions_ns
    if not graph.topic(topics.odometry(graph.role_name)).publishers or not graph.seconds:
        return ''  # no vehicle; the other checks name the missing node
    if not motions:
        said = f'no odometry in {graph.seconds:g} s: the simulator is paused or waiting'
        yield WARNING, said, 'read the logs of synchronizer and gate; look longer (--seconds 10)'
        return ''
    if not images:
        said = f'{len(motions)} odometry messages in {graph.seconds:g} s, '
        said += f'but no image on {topics.image(graph.role_name, graph.camera_id)}'
        yield ERROR, said, 'name the camera with --camera-id'
        return ''
    # The doctor starts where nothing is installed; NumPy is where frames arrive.
    from td3_agent.driving.loop_check import rate_hz, stamp_findings  # noqa: PLC0415

    for one in stamp_findings(images, motions, LEAST_FRAMES):
        yield ERROR if one.is_error else WARNING, *_split(one.text)
    rate = rate_hz(sorted(motions))
    at = '' if rate is None else f', {rate:.3g} Hz of simulated time'
    return f'{len(images)} images, {len(motions)} odometry messages{at}'


def check_reports(graph: Graph) -> Faults:
    """No node of ours warns."""
    statuses = sorted(graph.statuses, key=lambda status: status.name)
    reported: set[str] = set()
    for status in statuses:
        if status.level in LEVELS and status.message not in reported:
            reported.add(status.message)
            text, fix = _split(status.message)
            yield LEVELS[status.level], f'{status.name}: {text}', fix
    names = ', '.join(status.name for status in statuses if ':' not in status.name)
    return f'no warnings from {names}' if statuses else ''


def _split(text: str) -> tuple[str, str]:
    """Return the fault and its fix."""
    for mark in ('; ', ': '):
        said, found, fix = text.partition(mark)
        if found:
            return said, fix
    return text, 'see the log of the node'


GRAPH_CHECKS: Checks[Graph] = {
    'nodes': check_nodes,
    'clock': check_clock,
    'publishers': check_publishers,
    'endpoints': check_endpoints,
    'qos': check_qos,
    'types': check_types,
    'frames': check_frames,
    'reports': check_reports,
}
