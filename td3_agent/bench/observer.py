# SPDX-License-Identifier: Apache-2.0
"""A node of the benchmark's own process, and a domain of its own around it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import tempfile
import time
from typing import TYPE_CHECKING

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from td3_agent.evaluation.processes import (
    ProcessGroup,
    free_domain_id,
    interruptions_noted,
    ros_environment,
)
from td3_agent.nodes.runtime import own_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from td3_agent.evaluation.processes import Interruption

SPIN_S = 0.05
END_WAIT_S = 5.0


class BenchError(ValueError):
    """A node ended, or what was waited for did not come."""


@dataclass
class Observer:
    """A node that is spun by whoever waits for something.

    Attributes:
        node: listens and asks.
        group: the processes that are observed.
    """

    node: Node
    group: ProcessGroup
    _executor: SingleThreadedExecutor
    _interruption: Interruption

    def spin_once(self, longest_s: float = SPIN_S) -> None:
        """Handle what has come, or wait for it [s].

        Raises:
            KeyboardInterrupt: asked to end.
        """
        self._interruption.check()
        self._executor.spin_once(timeout_sec=longest_s)

    def wait_for(self, condition: Callable[[], bool], what: str, patience_s: float) -> None:
        """Spin until ``condition`` holds.

        Raises:
            BenchError: it did not in time [s], or a process of the group has ended.
        """
        end_s = time.monotonic() + patience_s
        while not condition():
            if dead := self.group.ended_early():
                status = dead.process.returncode
                raise BenchError(f'{dead.name} ended with {status}: {dead.last_words()}')
            if time.monotonic() > end_s:
                raise BenchError(f'{what}: expected within {patience_s:g} s, and did not come')
            self.spin_once()


@contextmanager
def observed() -> Iterator[Observer]:
    """Yield a node in a free domain, with a group of processes that end with the block.

    Raises:
        BenchError: one of them did not end cleanly.
    """
    domain_id = free_domain_id()
    environment = ros_environment(domain_id)
    os.environ.update(environment)  # the node in this process goes by it too
    context = own_context(domain_id)
    node = Node('td3_agent_bench', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        with (
            interruptions_noted(raising=True) as interruption,
            tempfile.TemporaryDirectory() as folder,
            ProcessGroup(Path(folder), environment) as group,
        ):
            yield Observer(node, group, executor, interruption)
            statuses = group.end()
            if any(statuses.values()):
                raise BenchError(f'every process must end with status 0, got {statuses}')
    finally:
        executor.shutdown(timeout_sec=END_WAIT_S)
        node.destroy_node()
        rclpy.shutdown(context=context)
