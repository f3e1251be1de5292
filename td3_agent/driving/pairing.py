# SPDX-License-Identifier: Apache-2.0
"""Pairs image and odometry of one frame: a frame is a stamp, never an arrival.

Two topics have no common order, so either may come first; what belongs to a frame that was
already left is dropped and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

ImageT = TypeVar('ImageT')
MotionT = TypeVar('MotionT')

# Stamps that run back by more than this are a restarted simulator or a looped bag, not reordering.
JUMP_BACK_NS = 500_000_000
# A frame this much later than the last one does not continue its frame stack.
GAP_NS = 1_000_000_000


@dataclass
class PairingCounts:
    """How often what happened to the halves of frames."""

    paired: int = 0
    stale: int = 0
    repeated: int = 0
    unpaired: int = 0
    resets: int = 0


@dataclass(frozen=True)
class Pair(Generic[ImageT, MotionT]):
    """Both halves of one frame.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        image: what arrived on the camera topic.
        motion: what arrived on the odometry topic.
        fresh_start: time jumped since the last pair: forget stacked frames and last action.
    """

    stamp_ns: int
    image: ImageT
    motion: MotionT
    fresh_start: bool


@dataclass
class _Halves(Generic[ImageT, MotionT]):
    image: ImageT | None = None
    motion: MotionT | None = None


@dataclass
class FramePairer(Generic[ImageT, MotionT]):
    """Collects halves by stamp and hands out each frame once, in order of stamps.

    Attributes:
        capacity: incomplete frames kept at most; the oldest is given up first.
        counts: what happened so far.
    """

    capacity: int = 8
    counts: PairingCounts = field(default_factory=PairingCounts)
    _open: dict[int, _Halves[ImageT, MotionT]] = field(default_factory=dict)
    _last_ns: int | None = None
    _fresh: bool = True

    def wants_image(self, stamp_ns: int) -> bool:
        """Whether an image with this stamp [ns] would be the first of a frame not left yet."""
        halves = self._open.get(stamp_ns)
        return not self._is_stale(stamp_ns) and (halves is None or halves.image is None)

    def add_image(self, stamp_ns: int, image: ImageT) -> Pair[ImageT, MotionT] | None:
        """Take the image of a frame [ns]; return the frame when this completes it."""
        halves = self._halves(stamp_ns)
        if halves is None:
            return None
        if halves.image is not None:
            self.counts.repeated += 1
            return None
        halves.image = image
        return self._complete(stamp_ns, halves)

    def add_motion(self, stamp_ns: int, motion: MotionT) -> Pair[ImageT, MotionT] | None:
        """Take the odometry of a frame [ns]; return the frame when this completes it."""
        halves = self._halves(stamp_ns)
        if halves is None:
            return None
        if halves.motion is not None:
            self.counts.repeated += 1
            return None
        halves.motion = motion
        return self._complete(stamp_ns, halves)

    def runs_back(self, stamp_ns: int) -> bool:
        """Whether a frame of this stamp [ns] begins anew: the first, or time has run back."""
        return self._last_ns is None or self._last_ns - stamp_ns > JUMP_BACK_NS

    def missing_half(self) -> tuple[int, str, ImageT | MotionT] | None:
        """Return the oldest frame that lacks a half: stamp [ns], which one, and the other."""
        stamp_ns = min(self._open, default=None)
        if stamp_ns is None:
            return None
        halves = self._open[stamp_ns]
        if halves.image is None and halves.motion is not None:
            return stamp_ns, 'image', halves.motion
        if halves.motion is None and halves.image is not None:
            return stamp_ns, 'odometry', halves.image
        return None

    def _halves(self, stamp_ns: int) -> _Halves[ImageT, MotionT] | None:
        """Return the halves kept for a stamp, or None when its frame was already left."""
        if self._is_stale(stamp_ns):
            self.counts.stale += 1
            return None
        if self._last_ns is not None and self.runs_back(stamp_ns):
            self._restart()
        if stamp_ns not in self._open:
            self._make_room()
            self._open[stamp_ns] = _Halves()
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

    def _complete(
        self, stamp_ns: int, halves: _Halves[ImageT, MotionT]
    ) -> Pair[ImageT, MotionT] | None:
        """Return the pair if both halves are there, and leave all older frames behind."""
        if halves.image is None or halves.motion is None:
            return None
        gap = self._last_ns is not None and stamp_ns - self._last_ns > GAP_NS
        fresh, self._fresh = self._fresh or gap, False
        self._last_ns = stamp_ns
        older = [stamp for stamp in self._open if stamp <= stamp_ns]
        for stamp in older:
            del self._open[stamp]
        self.counts.unpaired += len(older) - 1
        self.counts.paired += 1
        return Pair(stamp_ns, halves.image, halves.motion, fresh)
