# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the messages of a frame to its command: the agent node without ROS.

A frame is a stamp: image and odometry are paired by equal stamps, in whatever order they arrive.
A half of an older frame than the newest complete one is dropped.

In lockstep every complete frame gets one response, at once. Free-running, a timer asks for a
command: the same frame gives the same command again, and a frame that is too old gives a stop.
Every call takes the steady time [ns].
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
import traceback
from typing import TYPE_CHECKING, Any

from td3_agent.driving.agent import Response
from td3_agent.driving.command import STOP
from td3_agent.driving.geometry import GAP_NS, JUMP_BACK_NS
from td3_agent.driving.input_watch import InputWatch
from td3_agent.driving.loop_check import Contract, seconds
from td3_agent.driving.observation import ENCODINGS, ImageError

if TYPE_CHECKING:
    from td3_agent.driving.agent import Agent, TwistEncoder
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState


@dataclass
class PairingCounts:
    """What happened to the halves of frames, and how often."""

    paired: int = 0
    stale: int = 0
    repeated: int = 0
    unpaired: int = 0
    resets: int = 0


@dataclass
class Pair:
    """The halves of one frame; None is a half that has not arrived.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        image: what the caller keeps of the image.
        motion: what the caller keeps of the odometry.
        image_ns: when the image arrived [ns, steady].
        motion_ns: when the odometry arrived [ns, steady].
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
        """When the second half arrived [ns, steady]."""
        return max(self.image_ns, self.motion_ns)


@dataclass
class FramePairer:
    """Collects halves by stamp and returns each frame once, in order of stamps.

    Attributes:
        capacity: incomplete frames kept at most; the oldest is dropped first.
        counts: what happened so far.
    """

    capacity: int = 8
    counts: PairingCounts = field(default_factory=PairingCounts)
    _open: dict[int, Pair] = field(default_factory=dict)
    _last_ns: int | None = None
    _fresh: bool = True

    def wants_image(self, stamp_ns: int) -> bool:
        """Whether an image with this stamp [ns] is the first of its frame, and not stale."""
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
        """Return the halves kept for a stamp, or None when it is stale."""
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
        """Whether a stamp is no newer than the last complete frame, without a jump back."""
        is_old = self._last_ns is not None and stamp_ns <= self._last_ns
        return is_old and not self.runs_back(stamp_ns)

    def _restart(self) -> None:
        self.counts.resets += 1
        self.counts.unpaired += len(self._open)
        self._open.clear()
        self._last_ns = None
        self._fresh = True

    def _make_room(self) -> None:
        while len(self._open) >= self.capacity:
            del self._open[min(self._open)]
            self.counts.unpaired += 1

    def _complete(self, halves: Pair) -> Pair | None:
        """Return the frame if both halves are there, and drop all older frames."""
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
LONGEST_REASON = 1000  # characters of a driver's error text

NO_ROUTE = 'the route was withdrawn and the car is stopped, until another route comes'
# A frame's other half is a few milliseconds behind; in time for the car to be braked.
LONG_MISSING_NS = 300_000_000
MOTIONS_KEPT = 32  # an image may be late by some frames


class ImageCheck:
    """Rejects images that a drive cannot continue with."""

    def __init__(self, contract: Contract) -> None:
        self._encodings = contract.encodings or tuple(ENCODINGS)
        self._size: tuple[int, int] | None = None

    def check(self, image: ImageView, *, begins: bool) -> None:
        """Check an image.

        Args:
            image: to be checked.
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
    """Pairs the messages of one vehicle and computes its commands.

    Args:
        agent: computes them.
        encoder: puts them into the receiver's convention.
        lockstep: respond to each frame when it is complete; otherwise in :meth:`on_timer` alone.
        max_frame_age_ns: free-running, an older newest frame gives a stop [ns, steady]; in either
            mode a slower response is a fault.
        contract: what the driver was trained with.

    Attributes:
        watch: whether the inputs are as the driver needs them.
        fault: what is wrong at present, as a sentence; empty if nothing is.
    """

    def __init__(
        self,
        agent: Agent,
        encoder: TwistEncoder,
        *,
        lockstep: bool,
        max_frame_age_ns: int,
        contract: Contract | None = None,
    ) -> None:
        self.watch = InputWatch(contract or Contract())
        self.fault = ''
        self._check = ImageCheck(self.watch.contract)
        self._agent = agent
        self._encoder = encoder
        self._lockstep = lockstep
        self._max_frame_age_ns = max_frame_age_ns
        self._pairer = FramePairer()
        self._geometry: VehicleGeometry | None = None
        self._newest: Pair | None = None
        self._sent: Response | None = None
        self._rejected_in_a_row = 0
        self._motions_ns: dict[int, int] = {}  # when odometry arrived [ns, steady], by stamp [ns]
        self._image_delay_ns = 0  # of the newest image, after the odometry of its frame
        self._is_withdrawn = False  # whether the route is

    @property
    def counts(self) -> PairingCounts:
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
            self._agent.reset()  # its image stack is from before the stop
            self._encoder.reset()

    def reset(self) -> None:
        """Forget the past: a new drive begins."""
        self._sent = None
        self._check.keep(None)
        self._rejected_in_a_row = 0
        self.fault = ''
        self._agent.reset()
        self._encoder.reset()

    def on_image(self, stamp_ns: int, image: ImageView, now_ns: int) -> Response | None:
        """Take the image of a frame; preprocess it now, while the odometry is on its way.

        Raises:
            ImageError: the drive cannot continue with it.
        """
        self.watch.on_image(stamp_ns, image.width, image.height)
        self._image_delay_ns = now_ns - self._motions_ns.get(stamp_ns, now_ns)
        self._check.check(image, begins=self._pairer.runs_back(stamp_ns))
        half = None
        if self._pairer.wants_image(stamp_ns):
            timestamps: dict[str, int] = {}
            preprocessed = self._agent.preprocess(image, timestamps)
            half = preprocessed, (image.height, image.width), timestamps
        return self._on_pair(self._pairer.add_image(stamp_ns, half, now_ns))

    def on_motion(self, state: VehicleState, now_ns: int) -> Response | None:
        """Take the odometry of a frame."""
        self.watch.on_motion(state.stamp_ns)
        self._motions_ns[state.stamp_ns] = now_ns
        if len(self._motions_ns) > MOTIONS_KEPT:
            del self._motions_ns[next(iter(self._motions_ns))]
        return self._on_pair(self._pairer.add_motion(state.stamp_ns, state, now_ns))

    def on_rejected(self, reason: object) -> Response | None:
        """Note a rejected half of a frame, and why.

        Free-running, the third in a row stops the car; in lockstep the gate has stopped it at
        the first one, whose frame gets no command.
        """
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row < REJECTED_IN_A_ROW:
            return None
        self.fault = f'nothing usable arrives and the car is stopped: {reason}'
        return self._free_stop()

    def on_geometry(self, geometry: VehicleGeometry) -> Response | None:
        """Take the vehicle's geometry; a frame may have been waiting for it."""
        self._geometry = geometry
        return self._respond_once() if self._lockstep else None

    def on_timer(self, now_ns: int) -> Response | None:
        """Free-running: command from the newest frame, or a stop when that is too old."""
        pair = self._newest
        if pair is None:
            return None
        if self._rejected_in_a_row >= REJECTED_IN_A_ROW:
            return self._free_stop()  # on_rejected has set the fault
        if self._is_withdrawn:
            self.fault = NO_ROUTE
            return self._free_stop()
        if now_ns - pair.complete_ns > self._max_frame_age_ns:
            self.fault = 'the newest frame is too old: the car is stopped'
            return self._free_stop()
        fresh = self._respond_once()
        if fresh is None and self._sent is not None:  # same frame, same command
            return Response(stamp_ns=pair.stamp_ns, twist=self._sent.twist)
        return fresh

    def _free_stop(self) -> Response | None:
        """Return a stop for the newest frame; in lockstep the gate stops the car."""
        if self._lockstep or self._newest is None:
            return None
        return Response(stamp_ns=self._newest.stamp_ns, twist=STOP)

    def missing(self, now_ns: int) -> str:
        """Return which half of a frame is missing for long, or was late; empty if neither."""
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
            f'no {missing} for the frame at {seconds(found.stamp_ns)}, '
            f'{self.counts.unpaired} incomplete before it: '
            f'does the bridge publish it, and under the same stamp?'
        )

    def _on_pair(self, pair: Pair | None) -> Response | None:
        """Keep a complete frame; in lockstep, respond to it now."""
        if pair is None:
            return None
        self._newest = pair
        if pair.fresh_start:
            self.reset()
        self._rejected_in_a_row = 0
        _, size, _ = pair.image
        self._check.keep(size)
        return self._respond_once() if self._lockstep else None

    def _respond_once(self) -> Response | None:
        """Respond to the newest frame, unless that was done or something is missing for it."""
        pair = self._newest
        if pair is None or (self._encoder.needs_geometry and self._geometry is None):
            return None
        if self._sent is not None and self._sent.stamp_ns == pair.stamp_ns:
            return None
        self._sent = self._respond(pair)
        return self._sent

    def _respond(self, pair: Pair) -> Response:
        """Compute and encode the command; a driver that fails stops the car."""
        preprocessed, _, timestamps = pair.image
        timestamps |= {'image_received_ns': pair.image_ns, 'odometry_received_ns': pair.motion_ns}
        stop = Response(stamp_ns=pair.stamp_ns, twist=STOP, timestamps=timestamps)
        if self._is_withdrawn:
            return self._failed(stop, NO_ROUTE)
        state: VehicleState = pair.motion
        try:
            response = self._agent.respond(preprocessed, state, timestamps)
            twist = self._encoder.encode(response.twist, state, self._geometry)
            self.watch.on_response(
                pair.stamp_ns, speed_mps=state.speed_mps, commanded_mps=response.twist.linear_x
            )
        except Exception as error:  # noqa: BLE001  whatever a driver raises, the car must stop
            return self._failed(stop, f'driver failed: {_described(error)}'[:LONGEST_REASON])
        took_ns = response.timestamps.get('decided_ns', 0) - pair.complete_ns
        self.fault = ''
        if took_ns > self._max_frame_age_ns:
            reason = (
                f'driver answered after {took_ns / 1e9:.2f} s, expected <= '
                f'{self._max_frame_age_ns / 1e9:g} s; see what else uses the processor'
            )
            if not self._lockstep:
                return self._failed(response, f'{reason}: the car is stopped')
            self.fault = reason  # the gate has its own deadline, and decides
        return replace(response, twist=twist)

    def _failed(self, response: Response, reason: str) -> Response:
        """Return a response with a stop in place of its command."""
        self.fault = reason
        return replace(response, twist=STOP, error=reason)


def _described(error: Exception) -> str:
    """Return the type of an error, the line that raised it, and its text, which may be cut off."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f'{type(error).__name__} ({Path(place.filename).name}, line {place.lineno}): {error}'
