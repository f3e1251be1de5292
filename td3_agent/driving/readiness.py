# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Readiness for a step: what is needed, what is missing, and whether idle ticks may bring it.

Pure logic on the graph. A paused bridge spawns nothing, and ``carla_waypoint_publisher`` looks for
the car only in a tick; so the synchronizer waits for what a tick may bring with idle ticks, in
which the gates brake, and for everything else in pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

BRIDGE = 'bridge'
VEHICLE_OF, GATE_OF, AGENT_OF = 'vehicle of ', 'gate of ', 'agent of '
CAMERA, ODOMETRY, ROUTE, GATE = 'camera', 'odometry', 'route', 'gate'  # what an agent may wait for
TICK_BRINGS = frozenset({CAMERA, ODOMETRY, ROUTE})


class StepReadiness:
    """Which members of a drive are ready, at the newest look.

    Args:
        role_names: each needs a vehicle and a gate.
        wait_for_agent: whether each needs an agent too.
        idle_ticks: whether there are any; without them a paused bridge sends no odometry, and its
            vehicles need none.

    Attributes:
        names: bridge, vehicles, gates and agents that are needed.
        absent: members without which no step is made.
        braked: missing agents while others drive; their gates brake.
    """

    def __init__(
        self, role_names: Iterable[str], *, wait_for_agent: bool, idle_ticks: bool = True
    ) -> None:
        self._roles = tuple(role_names)
        self._idle_ticks = idle_ticks
        kinds = (VEHICLE_OF, GATE_OF, *((AGENT_OF,) if wait_for_agent else ()))
        self.names = [BRIDGE, *(kind + role for kind in kinds for role in self._roles)]
        self.absent = list(self.names)
        self.braked: list[str] = []
        self._present: set[str] = set()
        self._waits: Mapping[str, Collection[str]] = {}
        self._under_way = False
        self._unmoved: set[str] = set()  # vehicles without odometry since they were gone
        self._moved_ns: dict[str, int] = {}  # stamp of the newest odometry
        self._restarts = 0
        self._bridges: set[Hashable] = set()

    def follow(self, restarts: int, clock_ns: int | None) -> None:
        """Take the number of restarts: vehicles of a dead bridge do not count.

        The odometry of the first frame after a restart may arrive before its /clock.

        Args:
            restarts: so far.
            clock_ns: newest simulated time [ns]; None while it is not known.
        """
        if restarts != self._restarts:
            self._restarts = restarts
            now = {role for role, stamp_ns in self._moved_ns.items() if stamp_ns == clock_ns}
            self._unmoved = set(self._roles) - now
            self._update()

    def moved(self, role_name: str, stamp_ns: int) -> None:
        """Take the stamp of an odometry [ns]: a vehicle that was gone is back."""
        self._moved_ns[role_name] = stamp_ns
        if role_name in self._unmoved:
            self._unmoved.remove(role_name)
            self._update()

    def is_another_bridge(self, publishers: Iterable[Hashable]) -> bool:
        """Whether a new publisher of the status appears, while others were known.

        Nothing else shows a bridge that restarts in a world that goes on.
        """
        new = set(publishers) - self._bridges
        is_another = bool(new and self._bridges)
        self._bridges |= new
        return is_another

    def look(
        self, present: Collection[str], waits: Mapping[str, Collection[str]], *, under_way: bool
    ) -> None:
        """Take the present state.

        Args:
            present: names with a living publisher.
            waits: what the agent of a role waits for.
            under_way: whether steps were made; from then on a missing agent does not stop the
                others.
        """
        gone = (self._present - set(present)) & {VEHICLE_OF + role for role in self._roles}
        self._unmoved |= {name.removeprefix(VEHICLE_OF) for name in gone}
        self._present, self._waits, self._under_way = set(present), waits, under_way
        self._update()

    def _update(self) -> None:
        absent = [name for name in self.names if not self._is_there(name)]
        agents = [name for name in absent if name.startswith(AGENT_OF)]
        goes_on = self._under_way and len(agents) < len(self._roles)
        self.braked = agents if goes_on else []
        self.absent = [name for name in absent if name not in self.braked]

    def _is_there(self, name: str) -> bool:
        is_unmoved = name in {VEHICLE_OF + role for role in self._unmoved}
        return name in self._present and not (is_unmoved and self._idle_ticks)

    @property
    def vehicles_present(self) -> bool:
        return not any(name.startswith(VEHICLE_OF) for name in self.absent)

    @property
    def needs_ticks(self) -> bool:
        """Whether a tick may bring what is missing."""
        if not self.absent or BRIDGE in self.absent or not self._idle_ticks:
            return False
        if not self.vehicles_present:
            return True
        return all(TICK_BRINGS & set(self._waits_of(name)) for name in self.absent)

    def _waits_of(self, name: str) -> Collection[str]:
        return self._waits.get(name.removeprefix(AGENT_OF), ()) if AGENT_OF in name else ()

    def describe(self) -> str:
        """Return what the next step waits for, as a sentence; empty if it is ready."""
        if not self.absent:
            return ''
        named = ', '.join(self._shown(name) for name in self.absent)
        text = f'no step while these are silent or missing: {named}'
        return f'{text}; idle ticks, with full brake' if self.needs_ticks else text

    def _shown(self, name: str) -> str:
        waits = ', '.join(self._waits_of(name))
        return f'{name} (waits for {waits})' if waits else name
