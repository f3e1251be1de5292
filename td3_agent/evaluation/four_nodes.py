# SPDX-License-Identifier: Apache-2.0
"""Brings up the processes of a lockstep drive: bridge and synchronizer, gate and agent per role.

With one vehicle these are four.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from td3_agent.processes import NodeProcess, ProcessGroup


@dataclass(frozen=True, kw_only=True)
class FourNodes:
    """Parameters of the four kinds of node; what is not named keeps its default.

    Attributes:
        role_names: role names of the vehicles.
        bridge: of sim_bridge_node.
        gate: of twist_to_control_node, the same for every role.
        agent: of td3_agent_node, the same for every role.
        synchronizer: of synchronizer_node.
    """

    role_names: tuple[str, ...] = ('ego_vehicle',)
    bridge: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    synchronizer: Mapping[str, Any] = field(default_factory=dict)

    def start(self, group: ProcessGroup) -> NodeProcess:
        """Start all in ``group``; return the synchronizer.

        Of several vehicles, the nodes of each are in a namespace of its role name.
        """
        roles = {'role_names': list(self.role_names)}
        # Paused, so that the first frame is the synchronizer's.
        group.start('sim_bridge_node', {**roles, 'start_paused': True, **self.bridge})
        several = len(self.role_names) > 1
        for role in self.role_names:
            of_role, namespace = {'role_name': role}, role if several else ''
            group.start('twist_to_control_node', {**of_role, **self.gate}, namespace)
            group.start('td3_agent_node', {**of_role, **self.agent}, namespace)
        # The bridge needs no tick before the first frame, and drives are compared by frame number.
        alike = {'idle_period_s': 0.0}
        return group.start('synchronizer_node', {**roles, **alike, **self.synchronizer})
