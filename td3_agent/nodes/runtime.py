# SPDX-License-Identifier: Apache-2.0
"""What every node program shares: start, signals, steady timers, a clean end.

rclpy's own signal handler shuts the context down at once, and then nothing can be published
any more. A car must not be left driving on its last command, so signals only ask for the end
here: the node says its last word first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from rclpy.node import Node

EXIT_REFUSED = 2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
MIN_TIMER_NS = 1_000


def steady_ns() -> int:
    """Return the steady time [ns]; on one machine all processes share it."""
    return time.monotonic_ns()


class WakeUp:
    """A one-shot timer on the steady clock that can be moved.

    Simulated time stands still exactly when deadlines are needed, so none runs on it.
    """

    FAR_NS = 3_600_000_000_000

    def __init__(self, node: Node, callback: Callable[[], None]) -> None:
        """Call ``callback`` once whenever the time set with :meth:`at` has come."""
        self._callback = callback
        self._due_ns: int | None = None
        self._timer = node.create_timer(
            self.FAR_NS / 1e9, self._fire, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()

    def at(self, due_ns: int | None) -> None:
        """Wake at this steady time [ns], now if it has passed; None sleeps."""
        if due_ns == self._due_ns:
            return
        self._due_ns = due_ns
        if due_ns is None:
            self._timer.cancel()
            return
        self._timer.timer_period_ns = max(due_ns - steady_ns(), MIN_TIMER_NS)
        self._timer.reset()

    def _fire(self) -> None:
        """Sleep first, then call: the callback may set the next time."""
        self._timer.cancel()
        self._due_ns = None
        self._callback()


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """Run a node until it ends by itself or is asked to; return the exit status.

    The node may offer ``finished`` (a Future; done when it has nothing more to do), ``close()``
    (its last word, while it can still publish) and ``exit_status``.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _run(make_node)
    finally:
        rclpy.try_shutdown()


def _run(make_node: Callable[[], Node]) -> int:
    """Make the node, spin it, and let it end cleanly."""
    try:
        node = make_node()
    except (ValueError, OSError) as error:  # a parameter, map or path that was refused
        sys.stderr.write(f'{error}\n')
        return EXIT_REFUSED
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    finished = getattr(node, 'finished', None) or Future()
    stop_on_signal(finished)
    try:
        executor.spin_until_future_complete(finished)
    finally:
        if hasattr(node, 'close'):
            node.close()
        node.destroy_node()
        executor.shutdown(timeout_sec=1.0)
    return getattr(node, 'exit_status', 0)


def stop_on_signal(finished: Future) -> None:
    """Complete ``finished`` when the process is asked to stop.

    A Python handler would run only once the executor's wait in C returns; the byte that the
    interpreter writes to the wake-up descriptor is seen at once, by a thread of its own.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in STOP_SIGNALS:  # also where a shell started us with SIGINT ignored
        signal.signal(number, _noted)

    def wait() -> None:
        os.read(reader, 1)
        if not finished.done():
            finished.set_result(None)

    threading.Thread(target=wait, name='signals', daemon=True).start()


def _noted(number: int, frame: FrameType | None) -> None:
    """Let a signal pass: the wake-up descriptor has told of it."""
