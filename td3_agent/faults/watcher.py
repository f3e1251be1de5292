# SPDX-License-Identifier: Apache-2.0
"""Hears everything that must hold whatever happens, with its own context and thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
import gc
from itertools import pairwise
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl, CarlaStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from td3_agent.driving.gate import Outcome
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import control_from_message, facts_from_report, stamp_ns
from td3_agent.nodes.runtime import executors, own_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

DEEP = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)
POLL_S = 0.05
END_S = 5.0
SELF = 'td3_agent_watcher'


@dataclass(frozen=True)
class Heard:
    """One message.

    Attributes:
        at_ns: when it came [ns, steady].
        what: the message; of diagnostics one status.
    """

    at_ns: int
    what: Any


class Watcher:
    """Lists of what was heard, each in order of arrival; they only ever grow."""

    def __init__(self, domain_id: int, role_name: str = 'ego_vehicle') -> None:
        """Listen in a domain, to one vehicle, until the context is left."""
        self.commands: list[Heard] = []  # vehicle_control_cmd
        self.steps: list[Heard] = []  # /carla/control
        self.statuses: list[Heard] = []  # /carla/status
        self.clocks: list[Heard] = []
        self.reports: list[Heard] = []  # of the gate, one per frame
        self.diagnostics: list[Heard] = []  # one entry per status
        self._changed = threading.Condition()
        # In a long row it keeps millions of messages, which refer to nothing: looking through
        # them for cycles would make it deaf for seconds.
        self._collected = gc.isenabled()
        gc.disable()
        self._context = own_context(domain_id)
        self.node = Node(SELF, context=self._context, enable_rosout=False)
        for kind, topic, heard in (
            (CarlaEgoVehicleControl, topics.control(role_name), self.commands),
            (CarlaControl, topics.CONTROL, self.steps),
            (CarlaStatus, topics.STATUS, self.statuses),
            (Clock, '/clock', self.clocks),
            (DiagnosticArray, topics.gate_report(role_name), self.reports),
        ):
            self.node.create_subscription(kind, topic, partial(self._on_message, heard), DEEP)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, DEEP)
        self._executor = next(iter(executors().values()))(context=self._context)
        self._executor.add_node(self.node)
        self._ending = False
        self._thread = threading.Thread(target=self._spin, name='watcher', daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ending:
            self._executor.spin_once(timeout_sec=POLL_S)

    def _on_message(self, heard: list[Heard], msg: Any) -> None:  # noqa: ANN401  a message
        heard.append(Heard(time.monotonic_ns(), msg))
        with self._changed:
            self._changed.notify_all()

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            self._on_message(self.diagnostics, status)

    def wait_for(
        self, condition: Callable[[], Any], patience_s: float, alive: Callable[[], None]
    ) -> Any:  # noqa: ANN401  what the condition gives
        """Return what ``condition`` gives once that is true, or after ``patience_s`` [s].

        Args:
            condition: looked at after every message, and 20 times a second.
            patience_s: longest wait [s].
            alive: called in between; raises to end the wait.
        """
        end_s = time.monotonic() + patience_s
        while not (found := condition()):
            alive()
            if time.monotonic() > end_s:
                break
            with self._changed:
                self._changed.wait(POLL_S)
        return found

    def first_command(
        self, after_ns: int, wanted: Callable[[CarlaEgoVehicleControl], bool]
    ) -> Heard | None:
        """Return the first command after a time [ns, steady] that is as wanted."""
        return next(
            (h for h in tuple(self.commands) if h.at_ns >= after_ns and wanted(h.what)), None
        )

    def stop_delay_s(self, after_ns: int) -> float | None:
        """Return how long after a time [ns, steady] the vehicle was told to stop [s].

        0 where the last command before it was a stop already.
        """
        before = [heard for heard in tuple(self.commands) if heard.at_ns < after_ns]
        stop = self.first_command(after_ns, is_stop)
        if before and is_stop(before[-1].what) and stop is None:
            return 0.0
        return None if stop is None else (stop.at_ns - after_ns) / 1e9

    def named(self, after_ns: int, node: str, *words: str) -> Heard | None:
        """Return the first diagnosis after a time [ns] that is not OK and has all the words.

        Args:
            after_ns: when looking begins [ns, steady].
            node: name of the node that must say so; empty: any.
            words: parts of its message, capitals or not; none: any message.
        """
        return next(
            (
                heard
                for heard in tuple(self.diagnostics)
                if heard.at_ns >= after_ns
                and heard.what.level != DiagnosticStatus.OK
                and (not node or heard.what.name == node)
                and all(word.lower() in heard.what.message.lower() for word in words)
            ),
            None,
        )

    def newest(self, node: str) -> DiagnosticStatus | None:
        """Return the newest diagnosis of a node, or None."""
        said = tuple(self.diagnostics)
        return next((h.what for h in reversed(said) if h.what.name == node), None)

    def value(self, node: str, key: str) -> str | None:
        """Return a value of a node's newest diagnosis that has it, or None."""
        for heard in reversed(tuple(self.diagnostics)):
            if heard.what.name == node:
                for pair in heard.what.values:
                    if pair.key == key:
                        return pair.value
        return None

    def errors(self, after_ns: int = 0, before_ns: int | None = None) -> Iterator[Heard]:
        """Yield the diagnoses of level ERROR within a time [ns, steady]."""
        for heard in tuple(self.diagnostics):
            is_in = after_ns <= heard.at_ns and (before_ns is None or heard.at_ns < before_ns)
            if is_in and heard.what.level == DiagnosticStatus.ERROR:
                yield heard

    def outcomes(self, after_ns: int = 0) -> list[str]:
        """Return the gate's word on every frame since a time [ns, steady]."""
        facts = (facts_from_report(h.what) for h in tuple(self.reports) if h.at_ns >= after_ns)
        return [fact['outcome'] for fact in facts if 'outcome' in fact]

    def answers(self, after_ns: int = 0) -> list[Heard]:
        """Return the commands since a time [ns, steady] that are no stops sent between frames.

        The gate reports each of those, under the stamp of the frame that it follows.
        """
        reports = ((h.what, facts_from_report(h.what)) for h in tuple(self.reports))
        silences = Counter(
            stamp_ns(msg.header.stamp)
            for msg, facts in reports
            if facts.get('outcome') == Outcome.SILENCE.value
        )
        found = []
        for heard in reversed([h for h in tuple(self.commands) if h.at_ns >= after_ns]):
            stamp = stamp_ns(heard.what.header.stamp)
            if silences[stamp] > 0:
                silences[stamp] -= 1
            else:
                found.append(heard)
        return found[::-1]

    def longest_without_good_s(self, after_ns: int, before_ns: int) -> float:
        """Return the longest time within a span [ns] in which no frame was answered well [s]."""
        reports = tuple(self.reports)
        good = (h.at_ns for h in reports if facts_from_report(h.what).get('outcome') == 'ok')
        return longest_gap_s(good, after_ns, before_ns)

    def frames(self) -> list[int]:
        """Return the frame numbers of all statuses, in order of arrival, repeats left out."""
        numbers = [heard.what.frame for heard in tuple(self.statuses)]
        pairs = zip([None, *numbers], numbers, strict=False)
        return [number for before, number in pairs if number != before]

    def steps_sent(self, after_ns: int = 0) -> int:
        """Return how many STEP_ONCE were sent since a time [ns, steady]."""
        once = CarlaControl.STEP_ONCE
        return sum(
            heard.what.command == once for heard in tuple(self.steps) if heard.at_ns >= after_ns
        )

    def bad_commands(self) -> list[str]:
        """Return every command that is not finite, or out of range, as a sentence."""
        faults = []
        for heard in tuple(self.commands):
            control = control_from_message(heard.what)
            numbers = (control.throttle, control.steer, control.brake)
            if not all(map(math.isfinite, numbers)):
                faults.append(f'not finite: {control}')
            faults += control.faults()
        return faults

    def longest_silence_s(self, after_ns: int, before_ns: int) -> float:
        """Return the longest time within a span [ns] in which nobody said anything [s].

        Frames and commands count, and so does a diagnosis that tells why there are none.
        """
        times = [h.at_ns for heard in (self.commands, self.clocks) for h in tuple(heard)]
        times += [h.at_ns for h in tuple(self.diagnostics) if h.what.level != DiagnosticStatus.OK]
        return longest_gap_s(times, after_ns, before_ns)

    def close(self) -> None:
        """Stop listening."""
        self._ending = True
        self._executor.wake()
        self._thread.join(END_S)
        self._executor.shutdown(timeout_sec=END_S)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        if self._collected:
            gc.enable()

    def __enter__(self) -> Self:
        """Return the watcher itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, whatever happened."""
        self.close()


def longest_gap_s(times_ns: Iterable[int], after_ns: int, before_ns: int) -> float:
    """Return the longest time within a span [ns] that holds none of these times [s]."""
    inside = sorted(t for t in times_ns if after_ns < t < before_ns)
    return max(b - a for a, b in pairwise([after_ns, *inside, before_ns])) / 1e9


def is_stop(msg: CarlaEgoVehicleControl) -> bool:
    """Whether a command is full brake and no throttle."""
    return msg.brake == 1.0 and msg.throttle == 0.0
