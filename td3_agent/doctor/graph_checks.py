# SPDX-License-Identifier: Apache-2.0
"""Judges a running graph. Pure: facts in, findings out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from td3_agent.doctor.domain_checks import programs
from td3_agent.doctor.end_checks import check_ends, names_of
from td3_agent.doctor.facts import CLI_NODES
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.traffic_checks import check_frames, check_said
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from td3_agent.doctor.facts import Endpoint, Graph, Participant

CLOCK = '/clock'
AGENT = 'td3_agent'  # name of its node
MANUAL_OVERRIDE = 'vehicle_control_manual_override'
# Services, logs and parameters: everybody has them.
COMMON = ('/rosout', '/parameter_events', '/diagnostics')


def graph_findings(graph: Graph) -> list[Finding]:
    """Return the findings of every check, in order."""
    found: list[Finding] = []
    for check in GRAPH_CHECKS:
        found += check(graph)
    return found


def check_nodes(graph: Graph) -> Iterator[Finding]:
    """Somebody is there, and no name twice."""
    if not graph.nodes:
        yield _nobody(graph)
        return
    twice = sorted(name for name, count in Counter(graph.nodes).items() if count > 1)
    for name in twice:
        fix = 'end one of them, or give them namespaces'
        yield Finding(Level.ERROR, 'nodes', f'several nodes are called {name}', fix)
    if not twice:
        yield Finding(Level.OK, 'nodes', ', '.join(sorted(graph.nodes)))


def _nobody(graph: Graph) -> Finding:
    """Say where somebody is instead, as far as this machine shows it."""
    by_domain: dict[int, list[Participant]] = {}
    for one in graph.participants:
        by_domain.setdefault(one.domain_id, []).append(one)
    said = f'nobody is in domain {graph.domain_id}'
    if here := by_domain.pop(graph.domain_id, None):
        said = f'nobody answers in domain {graph.domain_id}, though {programs(here)} should'
        fix = 'look longer (--seconds 10); compare discovery, middleware and user of both'
        return Finding(Level.ERROR, 'nodes', said, fix)
    for domain_id, them in sorted(by_domain.items()):
        said += f'; domain {domain_id} has {programs(them)}'
    fix = 'start the system, or export the ROS_DOMAIN_ID that it runs in'
    if len(by_domain) == 1:
        fix = f'export ROS_DOMAIN_ID={next(iter(by_domain))}, or start the system here'
    return Finding(Level.ERROR, 'nodes', said, fix)


def check_clock(graph: Graph) -> Iterator[Finding]:
    """Exactly one publisher of simulated time."""
    publishers = graph.topic(CLOCK).publishers
    if not publishers:
        fix = 'start the bridge (or the embedded one), or a bag with --clock'
        yield Finding(Level.WARNING, 'clock', 'nobody publishes /clock', fix)
    elif len(publishers) > 1:
        fix = 'one simulator or bag per domain: end the other, or give it a domain of its own'
        said = f'/clock comes from {names_of(publishers)}: time jumps back and forth'
        yield Finding(Level.ERROR, 'clock', said, fix)
    else:
        yield Finding(Level.OK, 'clock', f'from {publishers[0].node}')


def check_writers(graph: Graph) -> Iterator[Finding]:
    """Exactly one writer of what may have one only."""
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
    faults = [
        Finding(Level.ERROR, 'writers', f'{name} comes from {names_of(publishers)}', fix)
        for name, fix in single.items()
        if len(publishers := graph.topic(name).publishers) > 1
    ]
    yield from faults
    if not faults:
        yield Finding(Level.OK, 'writers', 'no topic has a writer too many')


def check_qos(graph: Graph) -> Iterator[Finding]:
    """Each subscription asks for no more than each publisher of its topic offers."""
    faults = []
    for name, topic in sorted(graph.topics.items()):
        for reader in topic.subscriptions:
            for writer in topic.publishers:
                if (reason := _mismatch(graph, name, writer, reader)) and name not in COMMON:
                    said = f'{name}: {writer.node} never reaches {reader.node}, {reason[0]}'
                    faults.append(Finding(Level.ERROR, 'qos', said, reason[1]))
    yield from faults
    if not faults:
        yield Finding(Level.OK, 'qos', f'{len(graph.topics)} topics, all ends match')


def _mismatch(
    graph: Graph, name: str, writer: Endpoint, reader: Endpoint
) -> tuple[str, str] | None:
    """Return why the two do not match and the fix; None where they do (DDS 1.4, 2.2.3)."""
    if reader.reliable and not writer.reliable:
        fix = 'give both ends the same reliability'
        if name == topics.image(graph.role_name, graph.camera_id) and _name(reader) == AGENT:
            fix = 'camera_reliability:=best_effort for td3_agent_node'
        return 'best effort is offered, reliable asked for', fix
    if reader.latched and not writer.latched:
        fix = 'give both ends the same durability'
        if name == topics.of(graph.role_name, MANUAL_OVERRIDE) or _name(writer).startswith(
            CLI_NODES
        ):
            fix = 'publish transient local (ros2 topic pub --qos-durability transient_local)'
        return 'volatile is offered, transient local asked for', fix
    if reader.deadline_ns and not 0 < writer.deadline_ns <= reader.deadline_ns:
        return 'a shorter deadline is asked for than is offered', 'give both the same deadline'
    return None


def _name(end: Endpoint) -> str:
    """Return the name of an end's node without its namespace."""
    return end.node.rpartition('/')[2]


def check_types(graph: Graph) -> Iterator[Finding]:
    """One message type per topic, of one definition."""
    faults = []
    for name, topic in sorted(graph.topics.items()):
        ends = (*topic.publishers, *topic.subscriptions)
        kinds = sorted({end.kind for end in ends})
        if len(kinds) > 1:
            fix = 'two sensors or nodes share a topic name: rename one'
            faults.append(Finding(Level.ERROR, 'types', f'{name} is {" and ".join(kinds)}', fix))
            continue
        faults += _hash_faults(graph, name, ends)
    yield from faults
    if not faults:
        yield Finding(Level.OK, 'types', 'one type and one definition for each topic')


def _hash_faults(graph: Graph, name: str, ends: tuple[Endpoint, ...]) -> Iterator[Finding]:
    by_hash: dict[str, list[str]] = {}
    for end in ends:
        if end.type_hash:
            by_hash.setdefault(end.type_hash, []).append(end.node)
    kind = ends[0].kind if ends else ''
    fix = 'build all from the same message package, and source that one everywhere'
    if len(by_hash) > 1:
        sides = ' and '.join(', '.join(sorted(set(nodes))) for nodes in by_hash.values())
        said = f'{name}: {sides} have different definitions of {kind}'
        yield Finding(Level.ERROR, 'types', said, fix)
    elif by_hash and graph.message_hashes.get(kind, next(iter(by_hash))) not in by_hash:
        said = f'{name}: the definition of {kind} is not the one installed here'
        yield Finding(Level.WARNING, 'types', said, fix)


GRAPH_CHECKS: tuple[Callable[[Graph], Iterator[Finding]], ...] = (
    check_nodes,
    check_clock,
    check_writers,
    check_ends,
    check_qos,
    check_types,
    check_frames,
    check_said,
)
