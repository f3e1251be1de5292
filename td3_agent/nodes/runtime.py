# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What all node programs share: qualities of service, steady timers, signals, a clean end.

rclpy's own signal handler shuts the context down at once, and then nothing can be published
any more. A car must not be left driving on its last command, so signals only ask for the end
here: the node says its last word first.
"""

from __future__ import annotations

import contextlib
from functools import partial
import gc
import os
import re
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.fastdds import udp_variables
from td3_agent.nodes.share import shared_path
from td3_agent.ros_domain import domain_id_of
from td3_agent.starting import end_at_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

    from rclpy.executors import Executor
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node
    from rclpy.timer import Timer

# The bridge's endpoints are all RELIABLE and KEEP_LAST; only durability and depth vary.
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# Reports are collected frame by frame; a short stall of the reader must not lose any.
REPORTS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)

EXIT_BROKEN, EXIT_REFUSED = 1, 2
CLEAN_UP_S = 3.0
LONGEST_SPIN_S = 60.0
EXECUTOR_VARIABLE = 'TD3_AGENT_EXECUTOR'
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
MIN_TIMER_NS = 1_000
# An argument, a parameter, a name, a map or a path that was refused: told in one sentence.
REFUSALS = (
    ValueError,
    OSError,
    NameValidationException,
    ParameterException,
    rclpy_implementation.RCLError,
    rclpy_implementation.UnknownROSArgsError,
)


def steady_ns() -> int:
    """Return the steady time [ns]; on one machine all processes share it."""
    return time.monotonic_ns()


def camera_qos(reliability: str) -> QoSProfile:
    """Return the camera subscription's quality of service: ``reliable`` or ``best_effort``.

    Best effort matches every known publisher; reliable does not lose large frames, but lets a
    slow reader hold up the bridge's tick.
    """
    policy = ReliabilityPolicy[reliability.upper()]
    return QoSProfile(depth=5, reliability=policy)


def steady_timer(node: Node, period_s: float, callback: Callable[[], object]) -> Timer:
    """Return a timer on the steady clock [s]: simulated time stands still when it is needed."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def own_context(domain_id: int | None) -> Context:
    """Return a context of its own for a part of a larger program; ``rclpy.shutdown`` ends it.

    Signals stay with the program: only it knows in which order to end things.

    Args:
        domain_id: ROS domain; None is that of the environment.
    """
    context = Context()
    rclpy.init(
        args=[],
        context=context,
        domain_id=domain_id,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    return context


class WakeUp:
    """A one-shot timer on the steady clock that can be moved."""

    FAR_NS = 3_600_000_000_000

    def __init__(self, node: Node, callback: Callable[[], None]) -> None:
        """Call ``callback`` once whenever the time set with :meth:`at` has come."""
        self._callback = callback
        self._due_ns: int | None = None
        self._timer = steady_timer(node, self.FAR_NS / 1e9, self._fire)
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


def refuse_illegal_transitions(node: LifecycleNode) -> None:
    """Let the node's ``change_state`` service answer what it cannot do with ``success: false``.

    Up to Jazzy, rclpy lets the state machine's refusal escape from the service's callback, which
    ends the process: a manager that activates twice would take the driver away from a moving car.
    """
    for service in node.services:
        if service.srv_name.endswith('/change_state'):
            service.callback = partial(_change_if_legal, service.callback)


def _change_if_legal(change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:  # noqa: ANN401
    try:
        return change(request, response)
    except RuntimeError:  # RCLError; the log has told which transition and state
        response.success = False
        return response


def run_program(
    make_node: Callable[[], Node], args: list[str] | None = None, *, shared_memory: bool = True
) -> NoReturn:
    """Run a node as this process's only task, and end the process with its exit status.

    Without ``shared_memory`` no other process can hold up what it publishes.

    The node may offer ``finished`` (a Future; done when it has nothing more to do), ``close()``
    (its last word, while it can still publish) and ``exit_status``.
    """
    end_at_once()
    if not shared_memory:
        os.environ.update(udp_variables(os.environ, shared_path('config')))
    try:
        _refuse_other_arguments(args)
        domain_id_of(os.environ)  # the middleware's own sentence names neither value nor range
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        executor, node = make_executor(), make_node()
    except REFUSALS as error:  # an argument, parameter, map or path that was refused
        sys.stderr.write(f'{refusal_text(error)}\n')
        status = EXIT_REFUSED
    else:
        status = _run(executor, node)
        del executor, node
    gc.collect()  # only when nothing refers to them do a lifecycle node's last parts go
    rclpy.try_shutdown()
    _leave(status)


def _refuse_other_arguments(args: list[str] | None) -> None:
    """Refuse what is no ROS argument: a parameter without ``-p`` would do nothing.

    Raises:
        ValueError: naming all of them.
    """
    others = other_arguments(sys.argv[1:] if args is None else args)
    if others:
        raise ValueError(
            f'arguments must follow --ros-args, a parameter as -p NAME:=VALUE and a remapping as '
            f'-r FROM:=TO, got {" ".join(others)}'
        )


def other_arguments(words: list[str]) -> list[str]:
    """Return the arguments that are not between ``--ros-args`` and ``--``."""
    others, of_ros = [], False
    for word in words:
        if word in {'--ros-args', '--'}:
            of_ros = word == '--ros-args'
        elif not of_ros:
            others.append(word)
    return others


def refusal_text(error: Exception) -> str:
    """Return what was refused, without the places in ROS's sources that refused it."""
    text = re.sub(r', at [^\s,]+:\d+', '', ' '.join(str(error).split()))
    text = text.removeprefix('failed to initialize rcl: ').removesuffix('. Error: error not set')
    return (
        f'unknown ROS arguments: {text}'
        if isinstance(error, rclpy_implementation.UnknownROSArgsError)
        else text
    )


def _run(executor: Executor, node: Node) -> int:
    """Spin the node and let it end cleanly; return the exit status."""
    # Else clearing pages takes longer than all copies of a large image. Only from here on: what
    # a node needs once, to start, is better given back.
    keep_freed_memory()
    executor.add_node(node)
    finished = getattr(node, 'finished', None) or Future()
    stop_on_signal(finished)
    status = _spin(executor, finished)
    if hasattr(node, 'close'):
        node.close()
    status = status or getattr(node, 'exit_status', 0)
    _bound_clean_up(status)
    node.destroy_node()
    executor.shutdown(timeout_sec=1.0)
    return status


def executors() -> dict[str, Callable[..., Executor]]:
    """Return rclpy's executors by name, the fastest first.

    The single-threaded one gathers all subscriptions, timers and services of the node anew for
    every message. The events executor, where there is one (Jazzy and later), is told what has
    arrived, in the order of arrival.
    """
    found: dict[str, Callable[..., Executor]] = {}
    with contextlib.suppress(ImportError):
        from rclpy.experimental import EventsExecutor  # noqa: PLC0415  not everywhere there

        found['events'] = EventsExecutor
    return {**found, 'single_threaded': SingleThreadedExecutor}


def make_executor(context: Context | None = None) -> Executor:
    """Return the fastest executor there is, or the one that ``TD3_AGENT_EXECUTOR`` names.

    Args:
        context: of its nodes; None is the default one.

    Raises:
        ValueError: there is no such executor.
    """
    known = executors()
    wanted = os.environ.get(EXECUTOR_VARIABLE) or next(iter(known))
    if wanted not in known:
        raise ValueError(
            f'{EXECUTOR_VARIABLE} must be {" or ".join(known)} with this rclpy, got {wanted!r}'
        )
    return known[wanted](context=context)


def _spin(executor: Executor, finished: Future) -> int:
    """Work until it is time to end; return the exit status as far as it is known."""
    try:
        while not finished.done():  # without a time limit, the events executor never sleeps
            executor.spin_until_future_complete(finished, timeout_sec=LONGEST_SPIN_S)
    except Exception:  # noqa: BLE001  whatever it was, the last word must still be said
        traceback.print_exc()
        return EXIT_BROKEN
    return 0


def _bound_clean_up(status: int) -> None:
    """Leave in :data:`CLEAN_UP_S` at the latest: everything has been said.

    A peer that was killed while it held a lock in shared memory can keep the middleware from
    letting go, and whoever waits for this process would have to kill it.
    """
    watchdog = threading.Timer(CLEAN_UP_S, _leave, (status,))
    watchdog.daemon = True
    watchdog.start()


def _leave(status: int) -> NoReturn:
    """End the process at once, without the interpreter's own end.

    That would hand signals back to their defaults, so a second one would change the status,
    and destroy what is left of the middleware, which has hung there.
    """
    with contextlib.suppress(OSError):  # what read it may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


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
