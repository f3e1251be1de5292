# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The synchronous-mode protocol of the CARLA ROS bridge, without ROS and without a simulator.

Written after what the upstream loop really does, races included (an agent that is safe here is
safe there), with one difference: an unknown control value is refused instead of spinning for
ever. The order of one loop iteration:

1. :meth:`RunState.wait_for_turn`  may block here while paused
2. :meth:`CommandWait.expect`      all vehicles known now
3. tick, publish status, clock, vehicle, sensors in the order of the objects file
4. :meth:`CommandWait.wait`        at most 1.0 s upstream, only if a command is still missing
"""

from __future__ import annotations

from enum import IntEnum
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VEHICLE_CONTROL_TIMEOUT_S = 1.0


class ControlCommand(IntEnum):
    """Values of carla_msgs/CarlaControl."""

    PLAY = 0
    PAUSE = 1
    STEP_ONCE = 2


class RunState:
    """PLAY, PAUSE and STEP_ONCE; owned by the loop's thread, fed from any other.

    ``on_running`` is called on the loop's thread whenever the running flag is set, whether or
    not it changed.
    """

    def __init__(self, on_running: Callable[[bool], None], *, start_paused: bool = False) -> None:
        """Start in PLAY as the bridge does, or paused."""
        self._on_running = on_running
        self._queue: queue.SimpleQueue[ControlCommand | None] = queue.SimpleQueue()
        self._stepping = False
        if start_paused:
            self._queue.put(ControlCommand.PAUSE)

    @property
    def is_playing(self) -> bool:
        """Whether the last turn was given freely, not as a single step."""
        return not self._stepping

    def put(self, command: int) -> bool:
        """Queue a command; return False, and change nothing, for an unknown value."""
        if command not in ControlCommand._value2member_map_:
            return False
        self._queue.put(ControlCommand(command))
        return True

    def shut_down(self) -> None:
        """Let the loop end, also while it is paused."""
        self._queue.put(None)

    def wait_for_turn(self) -> bool:
        """Return True when the loop may tick, False when it must end; blocks while paused.

        Of the commands queued since the last turn only the newest counts, so that a burst of
        PAUSE and steps collapses into one step.
        """
        try:
            command = self._newest()
            while command is not None:
                if command is ControlCommand.PAUSE:
                    self._on_running(False)  # noqa: FBT003  the flag is the message
                    command = self._taken(self._queue.get())
                    continue
                self._on_running(True)  # noqa: FBT003  the flag is the message
                self._stepping = command is ControlCommand.STEP_ONCE
                if self._stepping:
                    self._queue.put(ControlCommand.PAUSE)
                break
        except _ShutDownError:
            return False
        return True

    def _newest(self) -> ControlCommand | None:
        """Drain the queue and return the newest command, if there is one."""
        command = None
        while not self._queue.empty():  # this is the only reader
            command = self._taken(self._queue.get())
        return command

    @staticmethod
    def _taken(command: ControlCommand | None) -> ControlCommand:
        """Return a command from the queue, or end the loop."""
        if command is None:
            raise _ShutDownError
        return command


class _ShutDownError(Exception):
    """The loop was asked to end."""


class CommandWait:
    """Waits for one command of each expected vehicle; counts commands, not frames.

    The event stays set when the last command comes before :meth:`wait`, or when a second one
    comes: the next wait then returns at once. That is upstream's behaviour.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: list[str] = []
        self._all_received = threading.Event()

    def expect(self, names: Iterable[str]) -> None:
        """Begin a frame: expect one command of each of ``names``."""
        with self._lock:
            self._expected = list(names)

    def received(self, name: str) -> bool:
        """Take note of a command; return False when none was expected of ``name``."""
        with self._lock:
            was_expected = name in self._expected
            if was_expected:
                self._expected.remove(name)
            if not self._expected:
                self._all_received.set()
        return was_expected

    def wait(self, timeout_s: float = VEHICLE_CONTROL_TIMEOUT_S) -> list[str]:
        """Wait for the missing commands [s]; return the missing roles after a timeout."""
        if not self._expected:
            return []
        in_time = self._all_received.wait(timeout_s)
        self._all_received.clear()
        return [] if in_time else list(self._expected)

    def give_up(self) -> None:
        """End a wait that is going on: the program ends."""
        self._all_received.set()
