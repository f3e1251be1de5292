# SPDX-License-Identifier: Apache-2.0
"""Whether somebody else drives the vehicle already: two agents on one role, and neither drives.

The middleware's books are no proof: a killed agent stays in them until its lease is over, and
must not keep its successor from driving. Living agents speak on /diagnostics, at 1 Hz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType

from td3_agent.driving.endpoints import SILENCE_NS
from td3_agent.nodes.connections import Listener, ends_of
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.node import Node

PERIOD_S = 0.1
SETTLE_NS = 600_000_000  # until then the middleware has not heard of everybody


class Rivals:
    """Looks for other publishers of an agent's command topics, and for signs of their life."""

    def __init__(self, node: Node, topics: Sequence[str]) -> None:
        """Listen from now on, until :meth:`settled`."""
        self._node = node
        self._own = node.get_fully_qualified_name()
        self._topics = topics
        self._started_ns = steady_ns()
        self._listener = Listener(node)
        self._listener.start()
        self._then: Callable[[], object] | None = None
        self._timer = node.create_timer(
            PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()

    def when_known(self, then: Callable[[], object]) -> None:
        """Call ``then`` once :meth:`fault` can tell."""
        self._then = then
        self._timer.reset()

    def settled(self) -> None:
        """Listen no more: the decision has been taken."""
        self._timer.cancel()
        self._listener.stop()

    def fault(self) -> str:
        """Return why this agent must not drive, as a sentence with what to do; or nothing.

        A publisher of another name may be any program, and counts unless it says itself that it
        is not at work. One of our own name counts while it is not known to be dead.
        """
        self._listener.start()
        for topic, names in self._others().items():
            for name in names:
                if fault := self._fault_of(name, topic):
                    return fault
        return ''

    def _fault_of(self, name: str, topic: str) -> str:
        """Say why we must not drive beside a publisher of this name; or nothing."""
        now_ns, heard = steady_ns(), self._listener.heard
        is_twin, is_alive = name == self._own, heard.is_alive(name, now_ns)
        if is_twin and not is_alive and not self._has_listened():
            return f'{topic} has another publisher named {name}: try again in 3 s'
        if heard.is_at_work(name, now_ns) or not (is_twin or is_alive):
            return f'{name} publishes {topic} already: end it, or deactivate it'
        return ''

    def _others(self) -> dict[str, list[str]]:
        """Return the names of the other publishers of each topic; our own name is a twin's."""
        mine = {publisher.topic_name for publisher in self._node.publishers}
        found = {}
        for topic in self._topics:
            names = [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]
            if self._own in names and self._node.resolve_topic_name(topic) in mine:
                names.remove(self._own)
            found[topic] = names
        return found

    def _has_listened(self) -> bool:
        """Whether a living twin would have been heard by now."""
        since_ns = self._listener.since_ns
        return since_ns is not None and steady_ns() - since_ns >= SILENCE_NS

    def _look(self) -> None:
        """Go on as soon as it is known what there is to know."""
        settled = steady_ns() - self._started_ns >= SETTLE_NS
        others = any(self._others().values())
        if settled and (self._has_listened() or not others) and self._then is not None:
            self._timer.cancel()
            then, self._then = self._then, None
            then()
