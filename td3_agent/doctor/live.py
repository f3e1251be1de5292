# SPDX-License-Identifier: Apache-2.0
"""Has the running graph looked at, while the machine is, and judges it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from td3_agent.doctor.facts import Endpoint, Graph, Said, Topic, Traffic
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.graph_checks import graph_findings
from td3_agent.doctor.probe import Probe, how_it_ended

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from td3_agent.doctor.facts import Machine

# Without these no node starts: what it then says would only lead astray.
FIRST = ('rmw', 'domain')


def start(args: argparse.Namespace) -> Probe:
    """Start to look; most of it is waiting for discovery."""
    return Probe(
        'td3_agent.doctor.graph_probe',
        str(args.seconds),
        args.role_name,
        args.camera_id,
        patience_s=args.seconds + args.patience,
    )


def live_findings(look: Probe, machine: Machine, found: Sequence[Finding]) -> list[Finding]:
    """Return the findings of the running graph; one where it cannot be looked at.

    Args:
        look: what :func:`start` returned.
        machine: that of the graph.
        found: the findings of the machine.
    """
    first = [f.check for f in found if f.check in FIRST and f.level is Level.ERROR]
    if first:
        fix = f'mend {" and ".join(first)} first'
        return [Finding(Level.WARNING, 'live', 'the graph was not looked at', fix)]
    answer = _answer(look)
    if 'graph' in answer:
        graph = replace(_graph_of(answer['graph']), participants=machine.participants)
        return graph_findings(graph)
    rclpy = machine.imports.get('rclpy')
    fix = 'no node would start in this shell: mend what it says'
    if rclpy is None or rclpy.error:
        fix = 'mend what the imports say first'
    said = f'the graph cannot be looked at: {answer["error"]}'
    return [Finding(Level.ERROR, 'live', said, fix)]


def _answer(look: Probe) -> dict[str, Any]:
    status = look.wait()
    answers = look.answers()
    if answers:
        return answers[0]
    if status is None:
        return {'error': f'no answer in {look.patience_s:g} s'}
    return {'error': f'the look {how_it_ended(status)}'}


def _graph_of(row: dict[str, Any]) -> Graph:
    """Return what ``dataclasses.asdict`` and JSON have made of a graph, as a graph."""
    topics = {name: Topic(**_ends_of(topic)) for name, topic in row['topics'].items()}
    heard = row['traffic']
    stamps = {name: tuple(heard[name]) for name in ('images_ns', 'motions_ns')}
    said = tuple(Said(**one) for one in heard['said'])
    traffic = Traffic(seconds=heard['seconds'], said=said, **stamps)
    return Graph(**row | {'nodes': tuple(row['nodes']), 'topics': topics, 'traffic': traffic})


def _ends_of(topic: dict[str, Any]) -> dict[str, tuple[Endpoint, ...]]:
    return {side: tuple(Endpoint(**end) for end in ends) for side, ends in topic.items()}
