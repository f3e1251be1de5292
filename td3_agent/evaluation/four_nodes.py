# SPDX-License-Identifier: Apache-2.0
"""Brings up the four processes of a lockstep drive: bridge, gate, agent, synchronizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from td3_agent.evaluation.processes import NodeProcess, ProcessGroup


@dataclass(frozen=True, kw_only=True)
class FourNodes:
    """Parameters of the four nodes, by node; what is not named keeps its default.

    Attributes:
        role_name: role name of the vehicle, the same for all.
        bridge: of sim_bridge_node.
        gate: of twist_to_control_node.
        agent: of td3_agent_node.
        synchronizer: of synchronizer_node.
    """

    role_name: str = 'ego_vehicle'
    bridge: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    synchronizer: Mapping[str, Any] = field(default_factory=dict)

    def start(self, group: ProcessGroup) -> NodeProcess:
        """Start all four in ``group``; return the synchronizer."""
        role = {'role_name': self.role_name}
        # Paused, so that the first frame is the synchronizer's.
        group.start('sim_bridge_node', {**role, 'start_paused': True, **self.bridge})
        group.start('twist_to_control_node', {**role, **self.gate})
        group.start('td3_agent_node', {**role, **self.agent})
        return group.start(
            'synchronizer_node', {'role_names': [self.role_name], **self.synchronizer}
        )
