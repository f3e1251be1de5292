# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Right of way at junctions: first come, first served, before a stop line.

A vehicle is granted a path through a junction when all paths that meet it are clear and there is
room behind the junction. Requests are granted in the order in which they were made. A request
that waits for the junction to clear holds back later ones that it would meet, so every request is
granted in the end. A vehicle with a path can always leave it: there is no deadlock within a
junction. Full streets could still wait for each other in a circle, so a vehicle that has waited
for room for some time takes another street that has some. While any street has room, a vehicle in
front of it can move.

A driven car makes no requests. It closes the paths that meet one on which it stands, and, once it
is about to arrive, those that meet a path that it could take. A vehicle that can still stop before
its line gives its path back. On a path through several junctions, one that can still stop before
it comes near the driven car's way does so.
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from td3_agent.sim.lane_network import FREE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.driving.idm import IdmParams
    from td3_agent.sim.fleet import CarOnEdge, Fleet, Queues
    from td3_agent.sim.lane_network import FloatArray, IntArray, LaneNetwork

NO_PATH = -1
STOP_LINE_M = 0.5  # before the junction
REQUEST_M = 10.0  # earlier than one would begin to brake
PATIENCE_S = 5.0
ROUNDING_S = 1e-6  # times are products of floats
AIR_M = 1.0  # so that the last one in a queue has left the junction for certain
CLAIM_S, CLAIM_M = 5.0, 5.0  # a driven car so near to a junction is let through
CLAIM_MPS = 0.5  # slower, it does not seem to want to
INTRUDES_M = 1.0  # so far on a path, a driven car closes it


class Request(NamedTuple):
    """A vehicle that is first before a junction and could leave it on the other side.

    Attributes:
        since_s: simulated time of the request [s].
        vehicle: number of the vehicle.
        path: that it wants.
    """

    since_s: float
    vehicle: int
    path: int


class RightOfWay:
    """Remembers who holds which path through a junction.

    Args:
        network: the lanes.
        params: how the vehicles drive.
        number: of vehicles.

    Attributes:
        impatient: vehicles that have waited for room behind their junction for long.
    """

    def __init__(self, network: LaneNetwork, params: IdmParams, number: int) -> None:
        self._network, self._params = network, params
        self._path_edges = np.flatnonzero(network.in_junction)
        self._path_length_m = network.length_m[self._path_edges]
        self._held = np.full(number, NO_PATH, dtype=np.intp)
        self._on_held_m = np.zeros(number)  # middle of the holder, from the start of its path
        self._yields_at_m = np.full(number, np.inf)  # on its path, to a driven car
        self._meets_from_m = lru_cache(maxsize=None)(network.meets_from_m)
        self._since_s = np.full(number, np.inf)  # infinite: no request
        self._room_m = network.length_m  # on every edge, less what is promised
        self.impatient: list[int] = []

    def to_stop_line_m(self, fleet: Fleet) -> FloatArray:
        """Return how far each has to the line where it must stop as things are, (N,) [m].

        Infinite for vehicles that need not stop, or are too far away to react.
        """
        path = self._wanted(fleet)
        line_m = self._network.length_m[fleet.edge] - STOP_LINE_M - fleet.s_m - fleet.half_m
        near = line_m < REQUEST_M + self._stopping_m(fleet)
        waits = (path != NO_PATH) & (self._held != path) & near
        yields_m = self._yields_at_m - self._on_held_m - fleet.half_m
        return np.minimum(np.where(waits, line_m, np.inf), yields_m)

    def advance(self, distance_m: FloatArray) -> None:
        """Add the distances driven, (N,) [m]."""
        self._on_held_m += distance_m

    def forget(self, vehicle: int) -> None:
        """Drop the request of a vehicle that has come to another edge."""
        self._since_s[vehicle] = np.inf

    def has_room(self, fleet: Fleet, vehicle: int, edge: int) -> bool:
        """Whether a vehicle fits behind those that are, or will be, on an edge."""
        needed_m = min(self._space_m(fleet)[vehicle], self._network.length_m[edge])
        return bool(self._room_m[edge] >= needed_m)

    def update(
        self, fleet: Fleet, seen: Sequence[CarOnEdge], queues: Queues, now_s: float
    ) -> None:
        """Grant paths at this instant, and take some back."""
        network = self._network
        self._release(fleet)
        path = self._wanted(fleet)
        has_way = np.append((path == NO_PATH) | (self._held == path), np.zeros(len(seen), bool))
        foremost = queues.foremost(~has_way)
        first = [seen[i] for i in (foremost[foremost >= len(fleet)] - len(fleet)).tolist()]
        claiming = [car for car in first if self._claims(car)]
        ways = self._ways(claiming, seen)
        closed = self._closed(ways)
        let_pass = np.isin(fleet.edge, [car.edge for car in claiming])  # ahead of the car itself
        self._hand_back(fleet, closed, queues, foremost, let_pass)
        holds = self._held != NO_PATH
        rear_m = (self._on_held_m - fleet.half_m)[holds]
        blocked = closed | blocked_paths(network.cleared_at_m, self._held[holds], rear_m)
        waiting = foremost[foremost < len(fleet)]
        requests = self._requests(waiting, path, fleet, queues, now_s)
        for _, vehicle, wanted in granted(requests, network.cleared_at_m, blocked):
            self._held[vehicle] = wanted
            self._on_held_m[vehicle] = fleet.s_m[vehicle] - network.length_m[fleet.edge[vehicle]]
        self._yield(fleet, ways, let_pass)

    def _wanted(self, fleet: Fleet) -> IntArray:
        """Return the path through a junction that each takes next, or ``NO_PATH``, (N,)."""
        following = fleet.plan[:, 0]
        asks = (fleet.edge >= 0) & (following >= 0) & ~self._network.in_junction[fleet.edge]
        return np.where(asks, self._network.path_of_edge[following], NO_PATH)

    def _stopping_m(self, fleet: Fleet) -> FloatArray:
        """Return the comfortable stopping distances, reaction included, (N,) [m]."""
        params, speed = self._params, fleet.speed_mps
        braking_m = speed * speed / (2.0 * params.comfortable_deceleration_mps2)
        return np.asarray(speed * params.time_headway_s + braking_m)

    def _release(self, fleet: Fleet) -> None:
        """Free the paths that their holders have left, or left the map on."""
        holds = self._held != NO_PATH
        length_m = np.zeros(len(fleet))
        length_m[holds] = self._path_length_m[self._held[holds]]
        self._held[holds & (self._on_held_m - fleet.half_m > length_m)] = NO_PATH
        self._held[fleet.edge < 0] = NO_PATH

    def _ways(
        self, claiming: Sequence[CarOnEdge], seen: Sequence[CarOnEdge]
    ) -> tuple[list[int], list[int]]:
        """Return the paths that driven cars stand on, and those that they are about to take."""
        network = self._network
        standing = [
            int(network.path_of_edge[car.edge])
            for car in seen
            if network.in_junction[car.edge] and car.s_m + car.half_m > INTRUDES_M
        ]
        claimed = [
            int(network.path_of_edge[way])
            for car in claiming
            for way in network.followers[car.edge]
            if network.in_junction[way]
        ]
        return standing, claimed

    def _closed(self, ways: tuple[list[int], list[int]]) -> NDArray[np.bool_]:
        """Return the paths that driven cars close to others, (C,)."""
        standing, claimed = ways
        cleared_at_m = self._network.cleared_at_m
        closed = np.zeros(len(cleared_at_m), dtype=np.bool_)
        if standing or claimed:
            closed |= (cleared_at_m[standing + claimed] > FREE).any(axis=0)
            closed[standing] = True
        return closed

    def _yield(
        self, fleet: Fleet, ways: tuple[list[int], list[int]], let_pass: NDArray[np.bool_]
    ) -> None:
        """Stop vehicles on long paths before a driven car's way, if they can."""
        self._yields_at_m[:] = np.inf
        braking_m = fleet.speed_mps**2 / (2.0 * self._params.comfortable_deceleration_mps2)
        holds = np.flatnonzero((self._held != NO_PATH) & ~let_pass)
        for i in holds[self._network.is_joined[self._held[holds]]].tolist():
            held = int(self._path_edges[self._held[i]])
            others = {int(self._path_edges[way]) for part in ways for way in part} - {held}
            at_m = min((self._meets_from_m(held, other) for other in others), default=math.inf)
            if at_m - STOP_LINE_M - self._on_held_m[i] - fleet.half_m[i] > braking_m[i]:
                self._yields_at_m[i] = at_m - STOP_LINE_M

    def _claims(self, car: CarOnEdge) -> bool:
        """Whether a driven car that is first on its street is about to arrive at a junction."""
        network = self._network
        if network.in_junction[car.edge] or not car.drives_along or car.speed_mps < CLAIM_MPS:
            return False
        distance_m = float(network.length_m[car.edge]) - car.s_m - car.half_m
        return distance_m < CLAIM_S * car.speed_mps + CLAIM_M

    def _hand_back(
        self,
        fleet: Fleet,
        closed: NDArray[np.bool_],
        queues: Queues,
        foremost: IntArray,
        let_pass: NDArray[np.bool_],
    ) -> None:
        """Take paths back from vehicles that can still stop, and from those behind them."""
        before = (self._held != NO_PATH) & (self._on_held_m + fleet.half_m < 0.0)
        if not before.any():
            return
        line_m = -self._on_held_m - fleet.half_m - STOP_LINE_M
        braking_m = self._stopping_m(fleet) - fleet.speed_mps * self._params.time_headway_s
        stops = before & closed[self._held] & (line_m > braking_m) & ~let_pass
        self._held[stops | (before & queues.behind(foremost))] = NO_PATH
        if stops.any():  # vehicles behind them cannot keep theirs either
            self._held[before & queues.behind(np.flatnonzero(stops))] = NO_PATH

    def _requests(
        self, waiting: IntArray, path: IntArray, fleet: Fleet, queues: Queues, now_s: float
    ) -> list[Request]:
        """Return the requests of vehicles first before a junction with room behind it."""
        near = np.isfinite(self.to_stop_line_m(fleet)[waiting]) & (self._held[waiting] == NO_PATH)
        asking = waiting[near]
        self.impatient = []
        if not len(asking):
            return []
        self._since_s[asking] = np.minimum(self._since_s[asking], now_s)
        after = fleet.plan[asking, 1]
        length_m = self._network.length_m
        needed_m = np.minimum(self._space_m(fleet)[asking], length_m[after])
        self._room_m = queues.room_m() - self._promised_m(fleet)
        has_room = (after < 0) | (self._room_m[after] >= needed_m)
        late = now_s - self._since_s[asking] > PATIENCE_S + ROUNDING_S
        self.impatient = asking[late & ~has_room].tolist()
        return [
            Request(float(self._since_s[vehicle]), vehicle, int(path[vehicle]))
            for vehicle in asking[has_room].tolist()
        ]

    def _space_m(self, fleet: Fleet) -> FloatArray:
        """Return what each takes up in a queue, (N,) [m]."""
        return np.asarray(fleet.length_m + self._params.minimum_gap_m + AIR_M)

    def _promised_m(self, fleet: Fleet) -> FloatArray:
        """Return the room that holders of a path will take up behind the junction, (E,) [m]."""
        on_path = np.where(self._network.in_junction[fleet.edge], 0, 1)
        after = fleet.plan[np.arange(len(fleet)), on_path]
        holds = self._held != NO_PATH
        length_m = np.zeros(len(fleet))
        length_m[holds] = self._path_length_m[self._held[holds]]
        coming = holds & (self._on_held_m < length_m) & (after >= 0)
        edges = len(self._network.length_m)
        promised = np.bincount(after[coming], self._space_m(fleet)[coming], minlength=edges)
        return np.asarray(promised, dtype=np.float64)


def blocked_paths(
    cleared_at_m: FloatArray, held: IntArray, rear_m: FloatArray
) -> NDArray[np.bool_]:
    """Return which paths meet one that is held and not left behind, (C,).

    Args:
        cleared_at_m: (C, C), see :class:`~td3_agent.sim.lane_network.LaneNetwork`.
        held: (H,) paths that are held.
        rear_m: (H,) rear of each holder, from the start of its path [m].
    """
    return np.asarray((cleared_at_m[held] >= rear_m[:, np.newaxis]).any(axis=0))


def granted(
    requests: Sequence[Request], cleared_at_m: FloatArray, blocked: NDArray[np.bool_]
) -> list[Request]:
    """Return the requests that are granted now, the oldest first.

    Args:
        requests: of vehicles that are first before a junction.
        cleared_at_m: (C, C), as above.
        blocked: (C,) paths that cannot be granted.
    """
    given = []
    taken = blocked.copy()
    reserved = np.zeros_like(blocked)  # for earlier requests that wait
    for request in sorted(requests):
        meets = cleared_at_m[request.path] > FREE
        if taken[request.path] or reserved[request.path]:
            reserved |= meets
        else:
            taken |= meets
            given.append(request)
    return given
