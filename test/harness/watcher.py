# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Records what the nodes publish, with a context and a thread of its own."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
import gc
from itertools import pairwise
import math
import threading
import time
from typing import Any

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl, CarlaStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from td3_agent.driving.gate import Outcome
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import control_from_message, fields_from_report, stamp_ns
from td3_agent.nodes.runtime import executors, own_context

DEEP = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)
POLL_S = 0.05
END_S = 5.0


@dataclass(frozen=True)
class Received:
    """One message, of diagnostics one status, and when it came [ns, steady]."""

    at_ns: int
    what: Any


class Watcher:
    """Lists of what was received, each in order of arrival; they only grow."""

    def __init__(self, domain_id, role_name='ego_vehicle'):
        self.commands, self.steps, self.statuses, self.clocks = [], [], [], []
        self.reports = []  # of the gate, one per frame
        self.diagnostics = []  # one entry per status
        self._changed = threading.Condition()
        # In a long case it keeps millions of messages, which refer to nothing: looking through
        # them for cycles would stop the thread for seconds.
        self._collected = gc.isenabled()
        gc.disable()
        self.context = own_context(domain_id)
        self.node = Node('td3_agent_watcher', context=self.context, enable_rosout=False)
        for kind, topic, received in (
            (CarlaEgoVehicleControl, topics.control(role_name), self.commands),
            (CarlaControl, topics.CONTROL, self.steps),
            (CarlaStatus, topics.STATUS, self.statuses),
            (Clock, '/clock', self.clocks),
            (DiagnosticArray, topics.gate_report(role_name), self.reports),
        ):
            callback = partial(self._on_message, received)
            self.node.create_subscription(kind, topic, callback, DEEP)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, DEEP)
        self.executor = next(iter(executors().values()))(context=self.context)
        self.executor.add_node(self.node)
        self._ending = False
        self._thread = threading.Thread(target=self._spin, name='watcher', daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ending = True
        self.executor.wake()
        self._thread.join(END_S)
        self.executor.shutdown(timeout_sec=END_S)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        if self._collected:
            gc.enable()

    def _spin(self):
        while not self._ending:
            self.executor.spin_once(timeout_sec=POLL_S)

    def _on_message(self, received, msg):
        received.append(Received(time.monotonic_ns(), msg))
        with self._changed:
            self._changed.notify_all()

    def _on_diagnostics(self, msg):
        for status in msg.status:
            self._on_message(self.diagnostics, status)

    def wait_for(self, condition, patience_s, alive=lambda: None):
        """Return what ``condition`` gives once that is true, or after ``patience_s`` [s].

        It is evaluated after every message, and 20 times a second; ``alive`` is called in between
        and raises to end the wait.
        """
        end_s = time.monotonic() + patience_s
        while not (found := condition()):
            alive()
            if time.monotonic() > end_s:
                break
            with self._changed:
                self._changed.wait(POLL_S)
        return found

    def stop_delay_s(self, after_ns):
        """Return how long after a time [ns, steady] the first stop was commanded [s], or None.

        0 where the last command before it was a stop and no other has come since.
        """
        commands = tuple(self.commands)
        stops = (c.at_ns for c in commands if c.at_ns >= after_ns and is_stop(c.what))
        if (stop_ns := next(stops, None)) is not None:
            return (stop_ns - after_ns) / 1e9
        before = [command for command in commands if command.at_ns < after_ns]
        return 0.0 if before and is_stop(before[-1].what) else None

    def named(self, after_ns, node, *words):
        """Return the first diagnosis of ``node`` after a time [ns, steady] that names a fault.

        Its level is not OK, and its message has all the words, capitals or not.
        """
        return next(
            (
                each
                for each in tuple(self.diagnostics)
                if each.at_ns >= after_ns
                and each.what.level != DiagnosticStatus.OK
                and each.what.name == node
                and all(word.lower() in each.what.message.lower() for word in words)
            ),
            None,
        )

    def value(self, node, key):
        """Return a value of a node's newest diagnosis that has it, or None."""
        pairs = (
            pair
            for each in reversed(tuple(self.diagnostics))
            if each.what.name == node
            for pair in each.what.values
        )
        return next((pair.value for pair in pairs if pair.key == key), None)

    def errors(self, after_ns=0, before_ns=math.inf):
        """Return the diagnoses of level ERROR within a time [ns, steady], as text."""
        return [
            f'{each.what.name}: {each.what.message}'
            for each in tuple(self.diagnostics)
            if after_ns <= each.at_ns < before_ns and each.what.level == DiagnosticStatus.ERROR
        ]

    def _outcomes(self):
        facts = ((each.at_ns, fields_from_report(each.what)) for each in tuple(self.reports))
        return [(at_ns, fact['outcome']) for at_ns, fact in facts if 'outcome' in fact]

    def outcomes(self, after_ns=0):
        """Return the outcome of every frame since a time [ns, steady], as the gate reports it."""
        return [outcome for at_ns, outcome in self._outcomes() if at_ns >= after_ns]

    def responses(self, after_ns=0):
        """Return the commands since a time [ns, steady] that are no stops sent between frames.

        The gate reports each of those, under the stamp of the frame that it follows.
        """
        silences = Counter(
            stamp_ns(each.what.header.stamp)
            for each in tuple(self.reports)
            if fields_from_report(each.what).get('outcome') == Outcome.SILENCE.value
        )
        found = []
        for command in reversed([c for c in tuple(self.commands) if c.at_ns >= after_ns]):
            at_ns = stamp_ns(command.what.header.stamp)
            silences[at_ns] -= 1
            if silences[at_ns] < 0:
                found.append(command)
        return found[::-1]

    def longest_without_ok_s(self, after_ns, before_ns):
        """Return the longest time within a span [ns] without a frame of outcome ``ok`` [s]."""
        good = (at_ns for at_ns, outcome in self._outcomes() if outcome == 'ok')
        return longest_gap_s(good, after_ns, before_ns)

    def frames(self):
        """Return the frame numbers of all statuses, in order of arrival, repeats left out."""
        numbers = [each.what.frame for each in tuple(self.statuses)]
        return numbers[:1] + [b for a, b in pairwise(numbers) if a != b]

    def steps_sent(self, after_ns=0):
        """Return the number of STEP_ONCE since a time [ns, steady]."""
        once = CarlaControl.STEP_ONCE
        return sum(e.what.command == once and e.at_ns >= after_ns for e in tuple(self.steps))

    def bad_commands(self):
        """Return every command that is not finite, or out of range, as a sentence."""
        controls = [control_from_message(each.what) for each in tuple(self.commands)]
        return [fault for control in controls for fault in control.faults()]

    def longest_silence_s(self, after_ns, before_ns):
        """Return the longest time within a span [ns] without frame, command or reason [s]."""
        times = [e.at_ns for received in (self.commands, self.clocks) for e in tuple(received)]
        times += [e.at_ns for e in tuple(self.diagnostics) if e.what.level != DiagnosticStatus.OK]
        return longest_gap_s(times, after_ns, before_ns)


def longest_gap_s(times_ns, after_ns, before_ns):
    """Return the longest time within a span [ns] without any of these times [s]."""
    inside = sorted(t for t in times_ns if after_ns < t < before_ns)
    return max(b - a for a, b in pairwise([after_ns, *inside, before_ns])) / 1e9


def is_stop(msg):
    """Whether a command is full brake and no throttle."""
    return msg.brake == 1.0 and msg.throttle == 0.0


def is_sound(msg):
    """Whether a command is finite and in range."""
    return not control_from_message(msg).faults()
