# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Agent, gate and synchronizer of one vehicle in one process, on one executor.

A frame then needs fewer changes between processes. The nodes, their topics and what they publish
are the same, but they end together: an agent that hangs or crashes takes the gate with it, which
would have braked the car.
"""

from __future__ import annotations

from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.runtime import run_program
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode


def main(args: list[str] | None = None) -> None:
    """Run the nodes until one of them has finished, or until they are asked to end."""
    run_program(Td3AgentNode, GateNode, SynchronizerNode, args=args)


if __name__ == '__main__':
    main()
