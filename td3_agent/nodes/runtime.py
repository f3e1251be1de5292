# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Shared by all node programs: qualities of service, steady timers, signals, shutdown.

rclpy's own signal handler shuts the context down at once; after that nothing can be published. A
car must not keep driving on its last command, so here a signal only requests the shutdown: the
node first publishes its final stop.
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
from td3_agent.files import shared_path
from td3_agent.ros_domain import domain_id_of
from td3_agent.starting import end_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from rclpy.executors import Executor
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node
    from rclpy.timer import Timer

# All endpoints of the bridge are RELIABLE and KEEP_LAST; only durability and depth vary.
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# Deep enough for a short stall of the reader.
REPORTS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)

EXIT_BROKEN, EXIT_USAGE = 1, 2
CLEAN_UP_S = 3.0
LONGEST_SPIN_S = 60.0
EXECUTOR_VARIABLE = 'TD3_AGENT_EXECUTOR'
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
MIN_TIMER_NS = 1_000
# Errors of the user's arguments, parameters, names, maps and paths: reported in one sentence.
USER_ERRORS = (
    ValueError,
    OSError,
    NameValidationException,
    ParameterException,
    rclpy_implementation.RCLError,
    rclpy_implementation.UnknownROSArgsError,
)


def steady_ns() -> int:
    """Return the steady time [ns], which all processes of a machine share."""
    return time.monotonic_ns()


def camera_qos(reliability: str) -> QoSProfile:
    """Return the camera subscription's quality of service: ``reliable`` or ``best_effort``.

    Best effort matches every known publisher; reliable does not lose large frames, but a slow
    reader then delays the bridge's tick.
    """
    policy = ReliabilityPolicy[reliability.upper()]
    return QoSProfile(depth=5, reliability=policy)


def steady_timer(node: Node, period_s: float, callback: Callable[[], object]) -> Timer:
    """Return a timer on the steady clock [s]; simulated time stops when timers matter."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def own_context(domain_id: int | None) -> Context:
    """Return a separate context for a part of a larger program; end it with ``rclpy.shutdown``.

    It installs no signal handlers: the program decides in which order things end.

    Args:
        domain_id: ROS domain; None takes it from the environment.
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
    """A one-shot timer on the steady clock that can be moved.

    The timer itself is only moved forward: setting it takes longer than most callbacks, and a
    deadline is put off with every frame. It fires too early then, and is set again.
    """

    FAR_NS = 3_600_000_000_000

    def __init__(self, node: Node, callback: Callable[[], None]) -> None:
        """Call ``callback`` once at each time set with :meth:`at`."""
        self._callback = callback
        self._due_ns: int | None = None
        self._set_ns: int | None = None  # when the timer fires
        self._timer = steady_timer(node, self.FAR_NS / 1e9, self._fire)
        self._timer.cancel()

    def at(self, due_ns: int | None) -> None:
        """Wake at this steady time [ns], at once if it has passed; None cancels."""
        self._due_ns = due_ns
        if due_ns is not None and (self._set_ns is None or due_ns < self._set_ns):
            self._set_ns = due_ns
            self._timer.timer_period_ns = max(due_ns - steady_ns(), MIN_TIMER_NS)
            self._timer.reset()

    def _fire(self) -> None:
        """Cancel first: the callback may set the next time."""
        self._timer.cancel()
        self._set_ns = None
        due_ns, self._due_ns = self._due_ns, None
        if due_ns is None:
            return
        if steady_ns() < due_ns:
            self.at(due_ns)
        else:
            self._callback()


def reject_illegal_transitions(node: LifecycleNode) -> None:
    """Make ``change_state`` respond ``success: false`` to an illegal transition.

    Up to Jazzy, rclpy raises the state machine's error from the service's callback, which ends
    the process: a manager that activates twice would end the driver of a moving car.
    """
    for service in node.services:
        if service.srv_name.endswith('/change_state'):
            service.callback = partial(_change_if_legal, service.callback)


def _change_if_legal(change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:  # noqa: ANN401
    try:
        return change(request, response)
    except RuntimeError:  # RCLError; rcl has logged transition and state
        response.success = False
        return response


def run_program(
    *make_nodes: Callable[[], Node], args: list[str] | None = None, shared_memory: bool = True
) -> NoReturn:
    """Run nodes on one executor, and end the process with their exit status.

    Without ``shared_memory`` no other process can block their publishers.

    A node may have ``finished`` (a Future, done when the node has nothing more to do; the first
    one ends all nodes), ``close()`` (called while it can still publish) and ``exit_status``.
    """
    end_at_once()
    if not shared_memory:
        os.environ.update(udp_variables(os.environ, shared_path('config')))
    try:
        _reject_other_arguments(args)
        domain_id_of(os.environ)  # the middleware's own error names neither value nor range
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        executor, nodes = make_executor(), [make_node() for make_node in make_nodes]
    except USER_ERRORS as error:
        sys.stderr.write(f'{error_text(error)}\n')
        status = EXIT_USAGE
    else:
        status = _run(executor, nodes)
        del executor, nodes
    gc.unfreeze()
    gc.collect()  # a lifecycle node's last parts are only freed without references
    rclpy.try_shutdown()
    _leave(status)


def _reject_other_arguments(args: list[str] | None) -> None:
    """Reject arguments that are no ROS arguments, such as a parameter without ``-p``.

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


def error_text(error: Exception) -> str:
    """Return the error's text without locations in the sources of ROS."""
    text = re.sub(r', at [^\s,]+:\d+', '', ' '.join(str(error).split()))
    text = text.removeprefix('failed to initialize rcl: ').removesuffix('. Error: error not set')
    return (
        f'unknown ROS arguments: {text}'
        if isinstance(error, rclpy_implementation.UnknownROSArgsError)
        else text
    )


def _run(executor: Executor, nodes: Sequence[Node]) -> int:
    """Spin the nodes, end them cleanly and return the exit status."""
    # Otherwise clearing pages takes longer than all copies of a large image. Not before: memory
    # that only the start needs is better returned.
    keep_freed_memory()
    gc.collect()
    gc.freeze()  # later collections, between two frames, skip the objects of the start
    for node in nodes:
        executor.add_node(node)
    finished = _first_finished(nodes)
    stop_on_signal(finished)
    status = _spin(executor, finished)
    for node in nodes:
        if hasattr(node, 'close'):
            node.close()
    status = status or max(getattr(node, 'exit_status', 0) for node in nodes)
    _bound_clean_up(status)
    for node in nodes:
        node.destroy_node()
    executor.shutdown(timeout_sec=1.0)
    return status


def _first_finished(nodes: Sequence[Node]) -> Future:
    """Return a future that is done as soon as one of the nodes has finished."""
    first = Future()

    def finish(_: Future) -> None:
        if not first.done():
            first.set_result(None)

    for node in nodes:
        if hasattr(node, 'finished'):
            node.finished.add_done_callback(finish)
    return first


def executors() -> dict[str, Callable[..., Executor]]:
    """Return rclpy's executors by name, the fastest first.

    The single-threaded executor collects all subscriptions, timers and services of the node again
    for every message. The events executor (Jazzy and later) is notified of each event, in order;
    with rclpy 7.1 it raises SystemError for callbacks that take the message info.
    """
    found: dict[str, Callable[..., Executor]] = {}
    with contextlib.suppress(ImportError):
        from rclpy.experimental import EventsExecutor  # noqa: PLC0415  not in every rclpy

        found['events'] = EventsExecutor
    return {**found, 'single_threaded': SingleThreadedExecutor}


def make_executor(context: Context | None = None) -> Executor:
    """Return the fastest available executor, or the one that ``TD3_AGENT_EXECUTOR`` names.

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
    """Spin until the node is finished; return 1 after an uncaught exception, else 0."""
    try:
        while not finished.done():  # the events executor would busy-wait without a time limit
            executor.spin_until_future_complete(finished, timeout_sec=LONGEST_SPIN_S)
    except Exception:  # noqa: BLE001  the final stop must still be published
        traceback.print_exc()
        return EXIT_BROKEN
    return 0


def _bound_clean_up(status: int) -> None:
    """End the process in :data:`CLEAN_UP_S` at the latest; everything is published by now.

    A peer that was killed while it held a lock in shared memory can block the middleware's
    clean-up.
    """
    watchdog = threading.Timer(CLEAN_UP_S, _leave, (status,))
    watchdog.daemon = True
    watchdog.start()


def _leave(status: int) -> NoReturn:
    """End the process at once, without the interpreter's finalisation.

    Finalisation restores the default signal handlers, so a second signal would change the exit
    status, and destroys the rest of the middleware, which has hung there.
    """
    with contextlib.suppress(OSError):  # a broken pipe
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def stop_on_signal(finished: Future) -> None:
    """Complete ``finished`` on SIGINT or SIGTERM.

    A Python handler only runs once the executor's wait in C returns. A separate thread reads the
    byte that the interpreter writes to the wake-up descriptor, at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in STOP_SIGNALS:  # also if a shell has started us with SIGINT ignored
        signal.signal(number, _ignore)

    def wait() -> None:
        os.read(reader, 1)
        if not finished.done():
            finished.set_result(None)

    threading.Thread(target=wait, name='signals', daemon=True).start()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor carries the signal."""
