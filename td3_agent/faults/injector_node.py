# SPDX-License-Identifier: Apache-2.0
"""Stands between the embedded bridge and the nodes, and does to messages what rules say.

``python -m td3_agent.faults.injector_node SEED RELAYS``, relays in JSON; see
:class:`td3_agent.faults.injector.Relay`. Lines on standard input are JSON too, and each is
answered with the counts of all topics: ``{"rules": {TOPIC: [RULE, ...]}}`` replaces the rules of
the topics that it names, ``{}`` only asks. Messages stay serialised unless a rule sets fields.
Ends when its input does.
"""

from __future__ import annotations

from functools import partial
import heapq
from importlib import import_module
import itertools
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future

from td3_agent.faults.rules import NANOSECONDS_PER_SECOND, Line, Parcel, Rule
from td3_agent.nodes.runtime import LATCHED, WakeUp, run_program, steady_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LOOK_S = 0.05
# As for nodes: the graph shows an endpoint a moment before it has heard of us.
LOOKS_IN_A_ROW = 4


class Injector(Node):
    """Relays topics; a sink is offered only once the source is there."""

    def __init__(self, relays: list[dict[str, Any]], seed: str) -> None:
        """Relay each of ``relays``: topic, type, source, sink, latched."""
        super().__init__('td3_agent_fault_injector', enable_rosout=False)
        self.finished = Future()
        self._seed = seed
        self._lock = threading.Lock()  # over lines: the input's thread replaces them
        self._round = itertools.count()
        self._relays = {relay['topic']: relay for relay in relays}
        self._types = {topic: message_type(r['type']) for topic, r in self._relays.items()}
        self._lines = {topic: self._line(topic, ()) for topic in self._relays}
        self._sources: dict[str, Any] = {}
        self._sinks: dict[str, Any] = {}
        self._looks = dict.fromkeys(self._relays, 0)
        self._later: list[tuple[int, int, str, bytes]] = []
        self._numbers = itertools.count()
        self._wake = WakeUp(self, self._send_due)
        for topic, relay in self._relays.items():  # towards the bridge first
            self._open_sink(topic) if relay['upwards'] else self._open_source(topic)
        self.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        threading.Thread(target=self._read, name='input', daemon=True).start()

    def _line(self, topic: str, rules: Any) -> Line:  # noqa: ANN401  of Rule or of nothing
        """Return a new line of a topic; no two rounds of rules draw alike."""
        edit = partial(edited, self._types[topic])
        return Line(rules, f'{self._seed}:{next(self._round)}:{topic}', edit)

    def _open_source(self, topic: str) -> None:
        relay = self._relays[topic]
        self._sources[topic] = self.create_subscription(
            self._types[topic],
            relay['source'],
            partial(self._on_message, topic),
            LATCHED if relay['latched'] else DEEP,
            raw=True,
        )

    def _open_sink(self, topic: str) -> None:
        relay = self._relays[topic]
        qos = LATCHED if relay['latched'] else DEEP
        self._sinks[topic] = self.create_publisher(self._types[topic], relay['sink'], qos)

    def _look(self) -> None:
        """Offer the nodes what the bridge's side of has been there for a while."""
        for topic, relay in self._relays.items():
            if topic in self._sinks and topic in self._sources:
                continue
            if relay['upwards']:
                there = self._sinks[topic].get_subscription_count()
            else:
                there = self.count_publishers(relay['source'])
            self._looks[topic] = self._looks[topic] + 1 if there else 0
            if self._looks[topic] >= LOOKS_IN_A_ROW:
                self._open_source(topic) if relay['upwards'] else self._open_sink(topic)
                self._send_due()

    def _on_message(self, topic: str, data: bytes) -> None:
        """Send what the rules make of a message, now or later."""
        now_ns = steady_ns()
        with self._lock:
            parcels = self._lines[topic].take(data, now_ns)
        for parcel in parcels:
            self._post(topic, parcel, now_ns)

    def _post(self, topic: str, parcel: Parcel, now_ns: int) -> None:
        if parcel.due_ns <= now_ns and topic in self._sinks:
            self._sinks[topic].publish(parcel.data)
            return
        heapq.heappush(self._later, (parcel.due_ns, next(self._numbers), topic, parcel.data))
        self._wake.at(self._later[0][0])

    def _send_due(self) -> None:
        """Send what is due, and wake for the next."""
        waiting = []
        while self._later and self._later[0][0] <= steady_ns():
            parcel = heapq.heappop(self._later)
            if parcel[2] in self._sinks:
                self._sinks[parcel[2]].publish(parcel[3])
            else:
                waiting.append(parcel)  # until there is a sink
        due_ns = self._later[0][0] if self._later else None
        for parcel in waiting:
            heapq.heappush(self._later, parcel)
        self._wake.at(due_ns)

    def _read(self) -> None:
        """Take lines until there are no more."""
        for text in sys.stdin:
            answer: dict[str, Any]
            try:
                answer = {'counts': self._obey(json.loads(text))}
            except (ValueError, KeyError, TypeError) as error:
                answer = {'error': f'{error!r}'}
            sys.stdout.write(json.dumps(answer) + '\n')
            sys.stdout.flush()
        if not self.finished.done():
            self.finished.set_result(None)

    def _obey(self, order: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """Replace rules; return the counts up to then."""
        found = {
            topic: [Rule.from_json(words) for words in rules]
            for topic, rules in order.get('rules', {}).items()
        }
        with self._lock:
            counts = {topic: dict(line.counts) for topic, line in self._lines.items()}
            for topic, rules in found.items():
                self._lines[topic] = self._line(self._relays[topic]['topic'], rules)
        return counts


def message_type(name: str) -> Any:  # noqa: ANN401  a message class
    """Return the class of ``package/msg/Name``."""
    package, _, kind = name.split('/')
    return getattr(import_module(f'{package}.msg'), kind)


def edited(kind: Any, data: bytes, values: Mapping[str, Any], shift_ns: int) -> bytes:  # noqa: ANN401
    """Return a serialised message with fields set, or the stamp at ``values['stamp']`` shifted."""
    msg = deserialize_message(data, kind)
    if shift_ns:
        stamp = resolved(msg, values['stamp'])
        total_ns = max(stamp.sec * NANOSECONDS_PER_SECOND + stamp.nanosec + shift_ns, 0)
        stamp.sec, stamp.nanosec = divmod(total_ns, NANOSECONDS_PER_SECOND)
        return serialize_message(msg)
    for path, value in values.items():
        parent, _, name = path.rpartition('.')
        setattr(resolved(msg, parent), name, value)
    return serialize_message(msg)


def resolved(msg: Any, path: str) -> Any:  # noqa: ANN401  a message or a field
    """Return what a dotted path leads to; the message itself for an empty one."""
    for name in filter(None, path.split('.')):
        msg = getattr(msg, name)
    return msg


def main() -> None:
    """Relay until the input ends."""
    seed, relays = sys.argv[1:3]
    run_program(lambda: Injector(json.loads(relays), seed), args=[])


if __name__ == '__main__':
    main()
