# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of an agent's inputs: whether it can drive with them, and whether its car moves.

Pure: no ROS, no clocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.geometry import GAP_NS, JUMP_BACK_NS, NANOSECONDS_PER_SECOND
from td3_agent.driving.loop_check import (
    LEAST_FRAMES,
    WINDOW_FRAMES,
    CameraView,
    Contract,
    camera_findings,
    field_of_view_deg,
    is_too_much,
    rate_findings,
    rate_hz,
    seconds,
    stamp_findings,
)

# Longer than cars of the built-in traffic wait; a red light may last longer.
STANDS_S = 20.0
STANDS_M = 0.5
COMMANDED_MPS = 0.5
# Halves of one kind without one of the other: two seconds at 20 Hz.
SILENT_MESSAGES = 40
# Findings are recomputed after this many messages.
MESSAGES_PER_LOOK = 10


@dataclass
class _Moment:
    stamp_ns: int
    speed_mps: float
    commanded_mps: float


class MotionWindow:
    """Commanded and driven speed of the newest :data:`STANDS_S` of simulated time."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque()

    def add(self, stamp_ns: int, *, speed_mps: float, commanded_mps: float) -> None:
        """Add a frame: its stamp [ns], its speed, and the commanded speed."""
        if self._moments and not 0 < stamp_ns - self._moments[-1].stamp_ns <= GAP_NS:
            self._moments.clear()
        self._moments.append(_Moment(stamp_ns, speed_mps, commanded_mps))
        while stamp_ns - self._moments[0].stamp_ns > STANDS_S * NANOSECONDS_PER_SECOND:
            self._moments.popleft()

    def findings(self) -> list[Finding]:
        """Return why the car stands, if it does."""
        if len(self._moments) < LEAST_FRAMES:
            return []
        times_s = np.array([m.stamp_ns for m in self._moments]) / NANOSECONDS_PER_SECOND
        span_s = float(times_s[-1] - times_s[0])
        if span_s < STANDS_S - 1.0:
            return []
        steps_s = np.diff(times_s)
        moved_m = float(np.abs([m.speed_mps for m in self._moments][1:]) @ steps_s)
        if moved_m > STANDS_M:
            return []
        commanded = float(np.mean([abs(m.commanded_mps) for m in self._moments]))
        if commanded < COMMANDED_MPS:
            text = f'the driver commands {commanded:.1f} m/s, the car has moved {moved_m:.1f} m '
            text += f'in {span_s:.0f} s: is the road blocked, or the route at its end?'
        else:
            text = f'commanded {commanded:.1f} m/s, moved {moved_m:.1f} m in {span_s:.0f} s: is '
            text += 'manual override or the hand brake on, or the car against something?'
        return [Finding(text, is_error=False, key='standing')]


@dataclass
class InputWatch:
    """Watches the inputs and responses of an agent, in the order of arrival.

    Attributes:
        contract: what its driver was trained with.
        camera: its camera; None while it is not known.
    """

    contract: Contract = field(default_factory=Contract)
    camera: CameraView | None = None
    _images: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _motions: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _answered: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _jumps: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _motion: MotionWindow = field(default_factory=MotionWindow)
    _messages: int = 0
    _alone: int = 0  # > 0: odometry since the last image; < 0: images since the last odometry
    _looked: int = -MESSAGES_PER_LOOK
    _found: list[Finding] = field(default_factory=list)
    _are_bad: bool = False

    def on_image(self, stamp_ns: int, width_px: int, height_px: int) -> None:
        """Take stamp [ns] and size of an image."""
        self._take(self._images, stamp_ns)
        self._alone = min(self._alone, 0) - 1
        if self.camera is None or (width_px, height_px) != (
            self.camera.width_px,
            self.camera.height_px,
        ):
            self.camera = CameraView(width_px=width_px, height_px=height_px)

    def on_camera_info(self, width_px: int, height_px: int, focal_px: float) -> None:
        """Take image size and focal length from camera_info."""
        fov_deg = field_of_view_deg(width_px, focal_px)
        if fov_deg is not None and height_px > 0:
            self.camera = CameraView(width_px=width_px, height_px=height_px, fov_deg=fov_deg)

    @property
    def wants_lens(self) -> bool:
        """Whether camera_info would add something."""
        has_it = self.camera is not None and self.camera.fov_deg is not None
        return self.contract.camera is not None and not has_it

    @property
    def has_image(self) -> bool:
        """Whether any image has arrived."""
        return bool(self._images)

    @property
    def has_motion(self) -> bool:
        """Whether any odometry has arrived."""
        return bool(self._motions)

    def on_motion(self, stamp_ns: int) -> None:
        """Take the stamp of an odometry [ns]."""
        self._take(self._motions, stamp_ns)
        self._alone = max(self._alone, 0) + 1

    def on_response(self, stamp_ns: int, *, speed_mps: float, commanded_mps: float) -> None:
        """Take a frame that got its first response."""
        self._answered.append(stamp_ns)
        self._motion.add(stamp_ns, speed_mps=speed_mps, commanded_mps=commanded_mps)

    def restart(self) -> None:
        for stamps in (self._images, self._motions, self._answered):
            stamps.clear()
        self._found, self._are_bad = [], False
        self._alone = 0
        self.camera = None

    @property
    def names_missing_halves(self) -> bool:
        """Whether findings name a fault of the stamps, which explains incomplete frames."""
        return self._are_bad

    def findings(self) -> list[Finding]:
        """Return what is wrong, recomputed every few messages."""
        if self._messages - self._looked >= MESSAGES_PER_LOOK:
            self._looked = self._messages
            self._found = self._look()
        return self._found

    def _take(self, stamps: deque[int], stamp_ns: int) -> None:
        """Keep a stamp; one that runs back far starts a new drive."""
        self._messages += 1
        if stamps and stamps[-1] - stamp_ns > JUMP_BACK_NS:
            self.restart()
            self._jumps.append(self._messages)
        stamps.append(stamp_ns)

    def _look(self) -> list[Finding]:
        jumps = sum(self._messages - at <= 2 * WINDOW_FRAMES for at in self._jumps)
        if is_too_much(jumps, 2 * WINDOW_FRAMES):
            text = f'simulated time has run back {jumps} times within {2 * WINDOW_FRAMES} messages'
            text += ': are there two bridges in this domain?'
            return [Finding(text, is_error=True, key='time_runs_back')]
        if abs(self._alone) >= SILENT_MESSAGES:
            self._are_bad = True
            return [self._silent()]
        found = stamp_findings(tuple(self._images), tuple(self._motions))
        self._are_bad = bool(found)
        answered = tuple(self._answered)
        if len(answered) >= LEAST_FRAMES:
            images_hz = rate_hz(sorted(self._images))
            found += rate_findings(self.contract.rate_hz, rate_hz(answered), images_hz)
        if len(self._images) >= LEAST_FRAMES:
            found += camera_findings(self.contract.camera, self.camera)
        return found + self._motion.findings()

    def _silent(self) -> Finding:
        what, last, others = 'image', self._images, 'odometry messages'
        if self._alone < 0:
            what, last, others = 'odometry', self._motions, 'images'
        since = f'since {seconds(last[-1])}' if last else 'so far'
        text = f'no {what} {since}, but {abs(self._alone)} {others}: does the bridge publish it?'
        return Finding(text, is_error=True, key=f'no_{what}')
