# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the messages of a frame to its command: what the agent node does, without the node.

A frame is a stamp, never an arrival: image and odometry are paired by stamp. Two topics have no
common order, so either may come first; what belongs to a frame that was left is dropped.

In lockstep every complete frame is answered once, at once. Free-running, a timer asks for a
command; the same frame gives the same command again, and a frame that is too old gives a stop.
Every call is given the steady time [ns].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from td3_agent.driving.command import STOP
from td3_agent.driving.geometry import GAP_NS, JUMP_BACK_NS
from td3_agent.driving.input_watch import InputWatch
from td3_agent.driving.loop_check import Contract
from td3_agent.driving.observation import ENCODINGS, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.driving.agent import Agent, TwistEncoder
    from td3_agent.driving.command import TwistCommand
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState


@dataclass
class PairingCounts:
    """How often what happened to the halves of frames."""

    paired: int = 0
    stale: int = 0
    repeated: int = 0
    unpaired: int = 0
    resets: int = 0


@dataclass
class Pair:
    """The halves of one frame; None is a half that has not come.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        image: what was made of the image.
        motion: what arrived on the odometry topic.
        image_ns: when the image came [ns, steady].
        motion_ns: when the odometry came [ns, steady].
        fresh_start: time jumped since the last pair: forget stacked frames and last action.
    """

    stamp_ns: int
    image: Any = None
    motion: Any = None
    image_ns: int = 0
    motion_ns: int = 0
    fresh_start: bool = False

    @property
    def complete_ns(self) -> int:
        """When the second half came [ns, steady]."""
        return max(self.image_ns, self.motion_ns)


@dataclass
class FramePairer:
    """Collects halves by stamp and hands out each frame once, in order of stamps.

    Attributes:
        capacity: incomplete frames kept at most; the oldest is given up first.
        counts: what happened so far.
    """

    capacity: int = 8
    counts: PairingCounts = field(default_factory=PairingCounts)
    _open: dict[int, Pair] = field(default_factory=dict)
    _last_ns: int | None = None
    _fresh: bool = True

    def wants_image(self, stamp_ns: int) -> bool:
        """Whether an image with this stamp [ns] would be the first of a frame not left yet."""
        halves = self._open.get(stamp_ns)
        return not self._is_stale(stamp_ns) and (halves is None or halves.image is None)

    def add_image(self, stamp_ns: int, image: object, now_ns: int = 0) -> Pair | None:
        """Take the image of a frame [ns]; return the frame when this completes it."""
        return self._add(stamp_ns, 'image', image, now_ns)

    def add_motion(self, stamp_ns: int, motion: object, now_ns: int = 0) -> Pair | None:
        """Take the odometry of a frame [ns]; return the frame when this completes it."""
        return self._add(stamp_ns, 'motion', motion, now_ns)

    def _add(self, stamp_ns: int, half: str, content: object, now_ns: int) -> Pair | None:
        halves = self._halves(stamp_ns)
        if halves is None:
            return None
        if getattr(halves, half) is not None:
            self.counts.repeated += 1
            return None
        setattr(halves, half, content)
        setattr(halves, f'{half}_ns', now_ns)
        return self._complete(halves)

    def runs_back(self, stamp_ns: int) -> bool:
        """Whether a stamp [ns] starts a new drive: it is the first, or time ran back."""
        return self._last_ns is None or self._last_ns - stamp_ns > JUMP_BACK_NS

    def oldest(self) -> Pair | None:
        """Return the oldest frame that lacks a half."""
        return self._open[min(self._open)] if self._open else None

    def _halves(self, stamp_ns: int) -> Pair | None:
        """Return the halves kept for a stamp, or None when its frame was already left."""
        if self._is_stale(stamp_ns):
            self.counts.stale += 1
            return None
        if self._last_ns is not None and self.runs_back(stamp_ns):
            self._restart()
        if stamp_ns not in self._open:
            self._make_room()
            self._open[stamp_ns] = Pair(stamp_ns)
        return self._open[stamp_ns]

    def _is_stale(self, stamp_ns: int) -> bool:
        """Whether a stamp belongs to a frame that was left, and not to a new beginning."""
        is_old = self._last_ns is not None and stamp_ns <= self._last_ns
        return is_old and not self.runs_back(stamp_ns)

    def _restart(self) -> None:
        """Begin anew: simulated time ran back."""
        self.counts.resets += 1
        self.counts.unpaired += len(self._open)
        self._open.clear()
        self._last_ns = None
        self._fresh = True

    def _make_room(self) -> None:
        """Give up the oldest incomplete frame when there are too many."""
        while len(self._open) >= self.capacity:
            del self._open[min(self._open)]
            self.counts.unpaired += 1

    def _complete(self, halves: Pair) -> Pair | None:
        """Return the frame if both halves are there, and leave all older frames behind."""
        if halves.image is None or halves.motion is None:
            return None
        stamp_ns = halves.stamp_ns
        gap = self._last_ns is not None and stamp_ns - self._last_ns > GAP_NS
        halves.fresh_start, self._fresh = self._fresh or gap, False
        self._last_ns = stamp_ns
        older = [stamp for stamp in self._open if stamp <= stamp_ns]
        for stamp in older:
            del self._open[stamp]
        self.counts.unpaired += len(older) - 1
        self.counts.paired += 1
        return halves


REJECTED_IN_A_ROW = 3  # a single bad message is no reason to stop; the next frame is 50 ms away
LONGEST_REASON = 1000  # characters of what a driver said when it failed

NO_ROUTE = 'the route was withdrawn and the car is stopped, until another route comes'
# A frame's other half is a few milliseconds behind; in time for the car to be braked.
LONG_MISSING_NS = 300_000_000
MOTIONS_KEPT = 32  # an image that is late is so by some frames


@dataclass(frozen=True)
class FrameCommand:
    """What is to be published for a frame.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        twist: in the convention that the receiver understands.
        facts: what the ledger records of it, to be asked for when the command is out: hashes take
            their time. None for a repeated command.
    """

    stamp_ns: int
    twist: TwistCommand
    facts: Callable[[], dict[str, Any]] | None = None


class ImageCheck:
    """Refuses images that do not go on with a drive."""

    def __init__(self, contract: Contract) -> None:
        """Expect what the driver's contract names."""
        self._encodings = contract.encodings or tuple(ENCODINGS)
        self._size: tuple[int, int] | None = None

    def check(self, image: ImageView, *, begins: bool) -> None:
        """Look at an image, of which only a complete frame decides on the size of the drive.

        Args:
            image: to be looked at.
            begins: whether a drive begins with it.

        Raises:
            ImageError: it has another size than the images of this drive so far, or an encoding
                that the driver's contract does not have.
        """
        if image.encoding not in self._encodings:
            raise ImageError(
                f'encoding must be one of {", ".join(self._encodings)}, as the policy was '
                f'trained, got {image.encoding}'
            )
        size = (image.height, image.width)
        known = None if begins else self._size
        if known not in {None, size}:
            raise ImageError(
                f'height, width must be {known} [px] as since the drive began, got {size}; '
                'another camera needs the agent deactivated and activated'
            )

    def keep(self, size: tuple[int, int] | None) -> None:
        """Expect (height, width) [px] of a complete frame from now on; None: any."""
        self._size = size


class FrameResponder:
    """Pairs, decides and encodes for one vehicle."""

    def __init__(
        self,
        agent: Agent,
        encoder: TwistEncoder,
        *,
        lockstep: bool,
        max_frame_age_ns: int,
        contract: Contract | None = None,
    ) -> None:
        """Answer with ``agent``.

        Args:
            agent: decides.
            encoder: says the decision in the receiver's convention.
            lockstep: answer frames as they come; otherwise only :meth:`on_timer` answers.
            max_frame_age_ns: free-running: an older newest frame gives a stop [ns, steady]; a
                decision that takes longer is a fault in either mode.
            contract: what the driver was trained with.
        """
        self.watch = InputWatch(contract or Contract())
        self._check = ImageCheck(self.watch.contract)
        self._agent = agent
        self._encoder = encoder
        self._lockstep = lockstep
        self._max_frame_age_ns = max_frame_age_ns
        self._pairer = FramePairer()
        self._geometry: VehicleGeometry | None = None
        self._newest: Pair | None = None
        self._answered: FrameCommand | None = None
        self._rejected_in_a_row = 0
        self._motions_ns: dict[int, int] = {}  # when odometry came [ns, steady], by stamp [ns]
        self._image_delay_ns = 0  # of the newest image, after the odometry of its frame
        self._is_withdrawn = False  # whether the route is
        self.fault = ''  # what is wrong at present, as a sentence

    @property
    def counts(self) -> PairingCounts:
        """What became of the halves of frames."""
        return self._pairer.counts

    @property
    def newest_stamp_ns(self) -> int | None:
        """Stamp of the newest complete frame [ns]; None before any."""
        return None if self._newest is None else self._newest.stamp_ns

    def set_route(self, route: Route | None) -> None:
        """Drive along this route from now on; None withdraws it: every frame gets a stop."""
        was_withdrawn, self._is_withdrawn = self._is_withdrawn, route is None
        if route is None:
            return
        self._agent.set_route(route)
        if was_withdrawn:
            self.fault = ''
            self._agent.reset()  # what it saw last is some time ago
            self._encoder.reset()

    def reset(self) -> None:
        """Forget the past: a new drive begins."""
        self._answered = None
        self._check.keep(None)
        self._rejected_in_a_row = 0
        self.fault = ''
        self._agent.reset()
        self._encoder.reset()

    def on_image(self, stamp_ns: int, image: ImageView, now_ns: int) -> FrameCommand | None:
        """Take the image of a frame; it is prepared now, while the odometry is on its way.

        Raises:
            ImageError: it does not go on with the drive.
        """
        self.watch.on_image(stamp_ns, image.width, image.height)
        self._image_delay_ns = now_ns - self._motions_ns.get(stamp_ns, now_ns)
        self._check.check(image, begins=self._pairer.runs_back(stamp_ns))
        sight = self._agent.see(image) if self._pairer.wants_image(stamp_ns) else None
        return self._on_pair(self._pairer.add_image(stamp_ns, sight, now_ns))

    def on_motion(self, state: VehicleState, now_ns: int) -> FrameCommand | None:
        """Take the odometry of a frame."""
        self.watch.on_motion(state.stamp_ns)
        self._motions_ns[state.stamp_ns] = now_ns
        if len(self._motions_ns) > MOTIONS_KEPT:
            del self._motions_ns[next(iter(self._motions_ns))]
        return self._on_pair(self._pairer.add_motion(state.stamp_ns, state, now_ns))

    def on_rejected(self, reason: object) -> FrameCommand | None:
        """Take note that half of a frame could not be used, and why.

        Free-running, the third in a row stops the car; in lockstep the gate has stopped it at
        the first one, whose frame stays without a command.
        """
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row < REJECTED_IN_A_ROW:
            return None
        self.fault = f'nothing usable arrives and the car is stopped: {reason}'
        return self._free_stop()

    def on_geometry(self, geometry: VehicleGeometry) -> FrameCommand | None:
        """Take the vehicle's geometry; a frame may have been waiting for it."""
        self._geometry = geometry
        return self._answer_once() if self._lockstep else None

    def on_timer(self, now_ns: int) -> FrameCommand | None:
        """Free-running: command from the newest frame, or a stop when that is too old."""
        pair = self._newest
        if pair is None:
            return None
        if self._rejected_in_a_row >= REJECTED_IN_A_ROW:
            return self._free_stop()  # the fault has been told
        if self._is_withdrawn:
            self.fault = NO_ROUTE
            return self._free_stop()
        if now_ns - pair.complete_ns > self._max_frame_age_ns:
            self.fault = 'the newest frame is too old: the car is stopped'
            return self._free_stop()
        fresh = self._answer_once()
        if fresh is None and self._answered is not None:  # same frame, same command
            return FrameCommand(pair.stamp_ns, self._answered.twist)
        return fresh

    def _free_stop(self) -> FrameCommand | None:
        """Return a stop for the newest frame; in lockstep the stop is the gate's."""
        if self._lockstep or self._newest is None:
            return None
        return FrameCommand(self._newest.stamp_ns, STOP)

    def missing(self, now_ns: int) -> str:
        """Return which half of a frame has not come for long, or came late; empty if none."""
        if self._image_delay_ns >= LONG_MISSING_NS:
            return (
                f'the image comes {self._image_delay_ns / 1e9:.2f} s after the odometry of its '
                'frame: raise deadline_s of the gate above that (at most 0.9 s, as the bridge '
                'waits 1.0 s), or see what delays the camera'
            )
        found = self._pairer.oldest()
        if found is None or now_ns - found.complete_ns < LONG_MISSING_NS:
            return ''
        missing = 'image' if found.image is None else 'odometry'
        return (
            f'no {missing} for the frame at {found.stamp_ns / 1e9:.9g} s, '
            f'{self.counts.unpaired} incomplete before it: '
            f'does the bridge publish it, and under the same stamp?'
        )

    def _on_pair(self, pair: Pair | None) -> FrameCommand | None:
        """Keep a complete frame, and answer it now in lockstep."""
        if pair is None:
            return None
        self._newest = pair
        if pair.fresh_start:
            self.reset()
        self._rejected_in_a_row = 0
        self._check.keep(pair.image.image_size)
        return self._answer_once() if self._lockstep else None

    def _answer_once(self) -> FrameCommand | None:
        """Answer the newest frame unless it was answered, or something needed is missing."""
        pair = self._newest
        if pair is None or (self._encoder.needs_geometry and self._geometry is None):
            return None
        if self._answered is not None and self._answered.stamp_ns == pair.stamp_ns:
            return None
        self._answered = self._answer(pair)
        return self._answered

    def _answer(self, pair: Pair) -> FrameCommand:
        """Decide and encode; a driver that fails stops the car."""
        received = {
            'image_received_ns': pair.image_ns,
            'odometry_received_ns': pair.motion_ns,
        }
        if self._is_withdrawn:
            return self._failed(pair, received, NO_ROUTE)
        state: VehicleState = pair.motion
        try:
            decision = self._agent.decide(pair.image, state)
            twist = self._encoder.encode(decision.twist, state, self._geometry)
            self.watch.on_answer(
                pair.stamp_ns, speed_mps=state.speed_mps, commanded_mps=decision.twist.linear_x
            )
        except Exception as error:  # noqa: BLE001  whatever a driver raises, the car must stop
            return self._failed(pair, received, f'driver failed: {error}'[:LONGEST_REASON])
        took_ns = decision.times.get('decided_ns', 0) - pair.complete_ns
        if took_ns <= self._max_frame_age_ns:
            self.fault = ''
            return FrameCommand(pair.stamp_ns, twist, lambda: received | decision.facts())
        reason = (
            f'driver answered after {took_ns / 1e9:.2f} s, expected <= '
            f'{self._max_frame_age_ns / 1e9:g} s; see what else uses the processor'
        )
        if not self._lockstep:
            reason += ': the car is stopped'
            return self._failed(pair, received | decision.facts(), reason)
        self.fault = reason  # the gate has its own deadline, and decides
        return FrameCommand(pair.stamp_ns, twist, lambda: received | decision.facts())

    def _failed(self, pair: Pair, facts: dict[str, Any], reason: str) -> FrameCommand:
        """Return the stop that answers a frame for which there is no good command."""
        self.fault = reason
        return FrameCommand(pair.stamp_ns, STOP, lambda: facts | {'agent_error': reason})
