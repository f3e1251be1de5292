# SPDX-License-Identifier: Apache-2.0
"""Whether the loop drives, and as its policy was trained: counts in, findings out.

One rule for agent, gate, synchronizer, doctor, demo, evaluation and replay. Each finding is one
sentence with its cause and what to do. Pure: no ROS, no clocks.

==========================  ====================================================================
finding                     from
==========================  ====================================================================
frames without a command    outcomes of the newest frames, or of a whole drive
frames without an image     stamps of images and odometry: missing, constant, running back, never
or odometry                 equal, or of different rates
other rate than trained     stamps of the frames that were answered, and the policy's manifest
other camera than trained   image size, camera_info, and the policy's manifest
the car stands              commanded speed and odometry
several of one kind         publishers of a topic that may have one only
==========================  ====================================================================
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import pairwise
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.frames import NANOSECONDS_PER_SECOND
from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import SKIPPED
from td3_agent.driving.pairing import GAP_NS, JUMP_BACK_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

# Newest frames that count: five seconds at 20 Hz. What was mended is forgotten after them.
WINDOW_FRAMES = 100
# One second at 20 Hz; a share of fewer frames says little.
LEAST_FRAMES = 20
# A loaded machine loses single frames; a wrong camera loses one in ten or more.
MOST_SHARE = 0.05
LEAST_BAD_FRAMES = 3
# From here on the loop does not drive: an error, not a warning.
MOSTLY = 0.5
# Of the trained rate. Stamps are exact in lockstep; free-running drives vary by some per cent.
RATE_TOLERANCE = 0.09
# What differs by less is the same lens and the same picture, but for rounding.
FOV_TOLERANCE_DEG = 1.0
ASPECT_TOLERANCE = 0.02
# Longer than a car of the built-in traffic waits; a red light may last longer.
STANDS_S = 20.0
STANDS_M = 0.5
COMMANDED_MPS = 0.5
# A killed process stays in the middleware's memory for 20 s (Fast DDS's lease) and a little more.
LEASE_NS = 25_000_000_000
# A bridge that follows a killed one may run freely for a moment; frames that break for longer have
# another cause.
BURST_NS = 5_000_000_000
# Publishers that were not seen for so long were there twice once more, not still.
AGAIN_NS = 2_000_000_000
# Newest halves of frames whose other half may be on its way.
IN_FLIGHT = 2
# So many halves of one kind, and none of the other: two seconds at 20 Hz.
SILENT_MESSAGES = 40
# Findings are computed again after this many messages: asking must be quick.
MESSAGES_PER_LOOK = 10

REMEDIES = {
    Outcome.NO_COMMAND.value: 'is td3_agent active, and does it get image and odometry?',
    Outcome.NO_ODOMETRY.value: 'does the bridge publish odometry, stamped as /clock?',
    Outcome.NO_VEHICLE_INFO.value: 'does the bridge publish vehicle_info?',
    Outcome.INVALID_COMMAND.value: 'look at what td3_agent says',
    Outcome.SILENCE.value: 'are synchronizer and bridge running?',
    Outcome.IN_ADVANCE.value: 'it was stopped because no frame came',
    Outcome.IDLE.value: 'the diagnosis of the synchronizer names what it waits for',
}
OTHER_REMEDY = "is the gate running, and is it the vehicle's only one?"
COMMANDLESS = 'without the command of the driver'
LATE_REMEDY = (
    'the commands come too late: see what else uses the processor, or raise deadline_s '
    'and the wait of the bridge'
)


def is_too_much(bad: int, frames: int) -> bool:
    """Whether so many bad frames are more than an accident."""
    return bad == frames > 0 or (bad >= LEAST_BAD_FRAMES and bad > MOST_SHARE * frames)


def outcome_findings(
    outcomes: Mapping[str, int], *, late: int = 0, regular: str = ''
) -> list[Finding]:
    """Return what is wrong with frames whose outcomes these are; nothing if they were answered.

    Args:
        outcomes: how often each.
        late: commands that came after their frame was stopped.
        regular: which frames are bad, as ``every second frame is``; empty: their number tells.
    """
    outcomes = {name: n for name, n in outcomes.items() if name != SKIPPED}  # no frames of ours
    frames = sum(outcomes.values())
    bad = frames - outcomes.get(Outcome.OK.value, 0)
    if not is_too_much(bad, frames):
        return []
    names = {name: n for name, n in outcomes.items() if name != Outcome.OK.value and n}
    usual = max(names, key=lambda name: names[name])
    remedy = REMEDIES.get(usual, OTHER_REMEDY)
    if usual == Outcome.NO_COMMAND.value and late >= MOSTLY * bad:
        remedy = LATE_REMEDY
    told = ', '.join(f'{name} {n}' for name, n in sorted(names.items()))
    text = f'{bad} of {frames} frames {COMMANDLESS} ({told}): {remedy}'
    if regular:
        text = f'{regular} {COMMANDLESS} ({usual}): {remedy}'
    return [Finding(text, is_error=bad > MOSTLY * frames)]


def drive_findings(outcomes: Mapping[str, int]) -> list[Finding]:
    """Return what is wrong with a whole drive, by the outcomes of its frames: all of it errors."""
    return [replace(found, is_error=True) for found in outcome_findings(outcomes)]


class OutcomeWindow:
    """Outcomes of the newest frames."""

    def __init__(self) -> None:
        """Start with none."""
        self._outcomes: deque[str] = deque(maxlen=WINDOW_FRAMES)
        self._late: deque[int] = deque(maxlen=WINDOW_FRAMES)  # numbers of frames
        self._frames = 0

    def add(self, outcome: str) -> None:
        """Take the outcome of the next frame."""
        self._frames += 1
        self._outcomes.append(outcome)

    def add_late(self) -> None:
        """Take note of a command that came after its frame was stopped."""
        self._late.append(self._frames)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the newest frames; nothing before there are enough."""
        if len(self._outcomes) < LEAST_FRAMES:
            return []
        bad = [i for i, outcome in enumerate(self._outcomes) if outcome != Outcome.OK.value]
        late = sum(number > self._frames - len(self._outcomes) for number in self._late)
        # A text that changes with every frame would be published with every frame.
        share = f'about {_tens(len(bad), len(self._outcomes))} % of the frames are'
        which = f'{regular} is' if (regular := _regular(bad)) else share
        return outcome_findings(Counter(self._outcomes), late=late, regular=which)


def _tens(part: int, whole: int) -> int:
    return 10 * round(10 * part / whole)


def _regular(bad: Sequence[int]) -> str:
    """Return which frames are bad if they are equally far apart, as ``every second frame``."""
    steps = {after - before for before, after in pairwise(bad)}
    if len(bad) < LEAST_BAD_FRAMES or len(steps) != 1:
        return ''
    return _every(steps.pop())


def _every(step: int) -> str:
    words = {1: 'every frame', 2: 'every second frame', 3: 'every third frame'}
    return words.get(step, f'every {step}th frame')


# ---- Stamps -------------------------------------------------------------------------------------


def rate_hz(stamps_ns: Sequence[int]) -> float | None:
    """Return the mean rate of rising stamps [ns]; single gaps of a second do not count."""
    steps = np.diff(np.asarray(stamps_ns, dtype=np.int64))
    steps = steps[steps > 0]
    if (steps < GAP_NS).any():
        steps = steps[steps < GAP_NS]
    return NANOSECONDS_PER_SECOND / float(steps.mean()) if len(steps) else None


def stamp_findings(
    images_ns: Sequence[int], motions_ns: Sequence[int], least: int = LEAST_FRAMES
) -> list[Finding]:
    """Return why images and odometry do not make frames.

    Args:
        images_ns: stamps of the images in the order of their arrival [ns].
        motions_ns: stamps of the odometry [ns].
        least: with fewer of both nothing is said.
    """
    found = _bad_stamps('image', images_ns, least) + _bad_stamps('odometry', motions_ns, least)
    fewer, more = sorted((len(images_ns), len(motions_ns)))
    if found or fewer < LEAST_BAD_FRAMES or more < least:
        return found
    images, motions = np.unique(images_ns), np.unique(motions_ns)
    if _are_seldom_equal(images, motions):
        return [_unequal(images, motions)]
    return [
        *_without('image', images, motions, least),
        *_without('odometry', motions, images, least),
    ]


def _bad_stamps(what: str, stamps_ns: Sequence[int], least: int) -> list[Finding]:
    """Name stamps that are missing, constant, or running back."""
    count = len(stamps_ns)
    if count < least:
        return []
    zeros = sum(stamp == 0 for stamp in stamps_ns)
    if is_too_much(zeros, count):
        text = f'{what} stamps are missing, {zeros} of {count} are 0: header.stamp must be the'
        return [Finding(f'{text} simulated time of the frame', is_error=zeros > MOSTLY * count)]
    if len(set(stamps_ns)) == 1:
        text = f'{what} stamps stand still at {_seconds(stamps_ns[0])}: header.stamp must be the'
        return [Finding(f'{text} simulated time of the frame', is_error=True)]
    back = sum(after <= before for before, after in pairwise(stamps_ns))
    if is_too_much(back, count):
        text = f'{what} stamps repeat or run back, {back} of {count}: end all but one publisher'
        return [Finding(text, is_error=False)]  # messages that come twice do no harm
    return []


def _are_seldom_equal(images: NDArray[np.int64], motions: NDArray[np.int64]) -> bool:
    """Whether most of the rarer stamps have no equal, in the time that both span."""
    first, last = max(images[0], motions[0]), min(images[-1], motions[-1])
    counts = [int(((s >= first) & (s <= last)).sum()) for s in (images, motions)]
    both = len(np.intersect1d(images, motions))
    return both < MOSTLY * min(counts) or both == max(counts) == 0


def _unequal(images: NDArray[np.int64], motions: NDArray[np.int64]) -> Finding:
    """Name how far image stamps are from odometry stamps, which they seldom equal."""
    after = np.clip(np.searchsorted(motions, images), 1, len(motions) - 1)
    before_ns, after_ns = images - motions[after - 1], images - motions[after]
    nearest = np.where(np.abs(before_ns) <= np.abs(after_ns), before_ns, after_ns)
    both = int((nearest == 0).sum())
    text = f'{both or "none"} of {len(images)} image stamps equal an odometry stamp: '
    middle = int(np.median(nearest[nearest != 0]))
    period = float(np.median(np.diff(motions)))
    if abs(middle) > max(period, GAP_NS):
        text += f'images are near {_seconds(images[-1])}, odometry near {_seconds(motions[-1])}'
        text += '; both must be stamped with simulated time'
    else:
        text += f'images are {abs(middle)} ns {"later" if middle > 0 else "earlier"}'
        text += '; both must carry the stamp of their frame'
    return Finding(text, is_error=True)


def _without(
    what: str, have: NDArray[np.int64], others: NDArray[np.int64], least: int
) -> list[Finding]:
    """Name frames that lack ``what``: stamps of ``others`` that are not in ``have``."""
    inside = others[others >= have[0]][:-IN_FLIGHT]
    lacking = np.flatnonzero(~np.isin(inside, have))
    if not is_too_much(len(lacking), len(inside)) or len(inside) < least:
        return []
    regular = _regular(lacking.tolist())
    which = f'{regular} has' if regular else f'{len(lacking)} of {len(inside)} frames have'
    rates = {what: rate_hz(have.tolist()), 'other': rate_hz(others.tolist())}
    mine, theirs = f'{rates[what] or 0.0:.3g} Hz', f'{rates["other"] or 0.0:.3g} Hz'
    if what == 'image':
        step_s = 1.0 / (rates['other'] or math.inf)
        text = f'{which} no image: camera {mine}, bridge {theirs}; set sensor_tick of the camera '
        text += f'to 0.0 or {step_s:.3g}, or see what loses images'
    else:
        text = f'{which} no odometry: odometry {mine}, camera {theirs}; one odometry per step of '
        text += 'the bridge is needed'
    return [Finding(text, is_error=len(lacking) > MOSTLY * len(inside))]


def _seconds(stamp_ns: int) -> str:
    return f'{stamp_ns / NANOSECONDS_PER_SECOND:.9g} s'


# ---- What the policy was trained with -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """What a camera shows.

    Attributes:
        width_px: image columns.
        height_px: image rows.
        fov_deg: horizontal field of view; None where it is not known.
    """

    width_px: int
    height_px: int
    fov_deg: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no camera has.

        Raises:
            ValueError: naming field, value and range.
        """
        for name, side in (('width_px', self.width_px), ('height_px', self.height_px)):
            if side < 1:
                raise ValueError(f'{name} must be >= 1 [px], got {side}')
        if self.fov_deg is not None and not 0.0 < self.fov_deg < 180.0:
            raise ValueError(f'fov_deg must be in (0, 180) [deg], got {self.fov_deg}')

    def __str__(self) -> str:
        """Return size and field of view for people."""
        fov = '' if self.fov_deg is None else f' {self.fov_deg:.4g} deg'
        return f'{self.width_px}x{self.height_px}{fov}'


def field_of_view_deg(width_px: int, focal_px: float) -> float | None:
    """Return the horizontal field of view of a pinhole camera [deg]; None if it has none."""
    if not (math.isfinite(focal_px) and focal_px > 0.0 and width_px > 0):
        return None
    return math.degrees(2.0 * math.atan(width_px / (2.0 * focal_px)))


def camera_findings(trained: CameraView | None, got: CameraView | None) -> list[Finding]:
    """Return how a camera differs from the one that the policy was trained with.

    Images are scaled, so a larger one of the same picture is the same to the policy.
    """
    if trained is None or got is None:
        return []
    reasons = []
    aspect = got.width_px * trained.height_px / (got.height_px * trained.width_px)
    if abs(aspect - 1.0) > ASPECT_TOLERANCE:
        reasons.append('images of another shape are squeezed')
    elif got.width_px < trained.width_px:
        reasons.append('smaller images show less')
    known = None not in {trained.fov_deg, got.fov_deg}
    if known and abs((trained.fov_deg or 0.0) - (got.fov_deg or 0.0)) > FOV_TOLERANCE_DEG:
        reasons.append('another field of view moves everything')
    if not reasons:
        return []
    text = f'the policy was trained with a camera of {trained}, got {got}: {", ".join(reasons)}; '
    return [Finding(f'{text}set the camera to {trained}, or train with this one', is_error=False)]


def rate_findings(
    trained_hz: float | None, answered_hz: float | None, images_hz: float | None = None
) -> list[Finding]:
    """Return how the rate of the frames differs from the one the policy was trained at.

    Args:
        trained_hz: of the policy's manifest; None for drivers that have none.
        answered_hz: of the frames that are answered; None while it is not known.
        images_hz: of the images; None is that of the answered frames.
    """
    if trained_hz is None or answered_hz is None:
        return []
    if abs(answered_hz / trained_hz - 1.0) <= RATE_TOLERANCE:
        return []
    what, remedy = 'images come', f'a camera and a bridge step of {1.0 / trained_hz:.3g} s'
    if images_hz is not None and abs(images_hz / answered_hz - 1.0) > RATE_TOLERANCE:
        what, remedy = 'frames are answered', f'rate_hz:={trained_hz:.3g} and free processor time'
    text = f'{what} at {answered_hz:.3g} Hz, the policy was trained at {trained_hz:.3g} Hz'
    return [Finding(f'{text}: it needs {remedy}, or training at this rate', is_error=False)]


def replay_findings(  # noqa: PLR0913  what a bag held, and what became of it
    images_ns: Sequence[int],
    motions_ns: Sequence[int],
    answered_ns: Sequence[int],
    *,
    refused: int,
    contract: Contract,
    camera: CameraView | None,
) -> list[Finding]:
    """Return what is wrong with a bag and its replay; an error if most images gave no action.

    Args:
        images_ns: stamps of the images, in the order of the bag [ns].
        motions_ns: stamps of the odometry [ns].
        answered_ns: stamps of the frames that the driver answered [ns].
        refused: images that could not be used.
        contract: what the driver was trained with.
        camera: what the camera showed.
    """
    found = stamp_findings(images_ns, motions_ns, LEAST_BAD_FRAMES)
    if len(answered_ns) >= LEAST_BAD_FRAMES:
        images_hz = rate_hz(sorted(images_ns))
        found += rate_findings(contract.rate_hz, rate_hz(answered_ns), images_hz)
    found += camera_findings(contract.camera, camera)
    warnings = [replace(finding, is_error=False) for finding in found]
    count = len(images_ns) + refused
    if len(answered_ns) >= MOSTLY * count:
        return warnings
    text = f'{len(answered_ns)} of {count} images were answered, expected most of them'
    return [Finding(text, is_error=True), *warnings]


# ---- Whether the car moves ----------------------------------------------------------------------


@dataclass
class _Moment:
    stamp_ns: int
    speed_mps: float
    commanded_mps: float


class MotionWindow:
    """Commanded and driven speed of the newest :data:`STANDS_S` of simulated time."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._moments: deque[_Moment] = deque()

    def add(self, stamp_ns: int, *, speed_mps: float, commanded_mps: float) -> None:
        """Take an answered frame: its stamp [ns], its speed, and the speed asked for."""
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
            text += f'in {span_s:.0f} s: is the way blocked, or the route at its end?'
        else:
            text = f'commanded {commanded:.1f} m/s, moved {moved_m:.1f} m in {span_s:.0f} s: is '
            text += 'manual override or the hand brake on, or the car against something?'
        return [Finding(text, is_error=False)]


# ---- One vehicle's inputs and answers -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the driver was trained with; None where it was not trained.

    Attributes:
        rate_hz: frames per simulated second.
        camera: what the camera showed.
        encodings: of images that may be fed; empty: all that are known.
    """

    rate_hz: float | None = None
    camera: CameraView | None = None
    encodings: tuple[str, ...] = ()


@dataclass
class InputWatch:
    """Watches what an agent receives and answers, in the order of arrival.

    Attributes:
        contract: what its driver was trained with.
        camera: what its camera shows; None while it is not known.
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
        """Take an image's stamp [ns] and size."""
        self._take(self._images, stamp_ns)
        self._alone = min(self._alone, 0) - 1
        if self.camera is None or (width_px, height_px) != (
            self.camera.width_px,
            self.camera.height_px,
        ):
            self.camera = CameraView(width_px=width_px, height_px=height_px)

    def on_camera_info(self, width_px: int, height_px: int, focal_px: float) -> None:
        """Take what camera_info says of the lens."""
        fov_deg = field_of_view_deg(width_px, focal_px)
        if fov_deg is not None and height_px > 0:
            self.camera = CameraView(width_px=width_px, height_px=height_px, fov_deg=fov_deg)

    @property
    def wants_lens(self) -> bool:
        """Whether camera_info would tell something new."""
        has_it = self.camera is not None and self.camera.fov_deg is not None
        return self.contract.camera is not None and not has_it

    def on_motion(self, stamp_ns: int) -> None:
        """Take an odometry's stamp [ns]."""
        self._take(self._motions, stamp_ns)
        self._alone = max(self._alone, 0) + 1

    def on_answer(self, stamp_ns: int, *, speed_mps: float, commanded_mps: float) -> None:
        """Take a frame that is answered for the first time."""
        self._answered.append(stamp_ns)
        self._motion.add(stamp_ns, speed_mps=speed_mps, commanded_mps=commanded_mps)

    def restart(self) -> None:
        """Forget the past: a new drive begins."""
        for stamps in (self._images, self._motions, self._answered):
            stamps.clear()
        self._found, self._are_bad = [], False
        self._alone = 0
        self.camera = None

    @property
    def names_missing_halves(self) -> bool:
        """Whether what is wrong with the stamps has been found; a single frame adds nothing."""
        return self._are_bad

    def findings(self) -> list[Finding]:
        """Return what is wrong; quick, because it looks at some of the messages only."""
        if self._messages - self._looked >= MESSAGES_PER_LOOK:
            self._looked = self._messages
            self._found = self._look()
        return self._found

    def _take(self, stamps: deque[int], stamp_ns: int) -> None:
        """Keep a stamp; one that runs back far begins a drive anew."""
        self._messages += 1
        if stamps and stamps[-1] - stamp_ns > JUMP_BACK_NS:
            self.restart()
            self._jumps.append(self._messages)
        stamps.append(stamp_ns)

    def _look(self) -> list[Finding]:
        jumps = sum(self._messages - at <= 2 * WINDOW_FRAMES for at in self._jumps)
        if is_too_much(jumps, 2 * WINDOW_FRAMES):
            text = f'simulated time has run back {jumps} times within {2 * WINDOW_FRAMES} messages'
            return [Finding(f'{text}: are there two bridges in this domain?', is_error=True)]
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
        since = f'since {_seconds(last[-1])}' if last else 'so far'
        text = f'no {what} {since}, but {abs(self._alone)} {others}: does the bridge publish it?'
        return Finding(text, is_error=True)


# ---- Several of one kind ------------------------------------------------------------------------


@dataclass(frozen=True)
class Breaks:
    """What broke the row of frames so far.

    Attributes:
        violations: frames skipped, doubled or slipped.
        restarts: how often another bridge, or another time, has begun.
    """

    violations: int = 0
    restarts: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.violations + self.restarts


@dataclass
class Duplicates:
    """Publishers of topics that may have one only, while a drive goes on.

    A killed process stays in the graph until its lease ends, beside the one that follows it. A
    bridge that follows a killed one breaks the frames once; two that live break them all the
    time.
    """

    domain_id: int
    _alone: dict[str, Breaks] = field(default_factory=dict)  # when there was one at most
    _seen: dict[str, list[_Several]] = field(default_factory=dict)
    _strangers: dict[str, list[_Several]] = field(default_factory=dict)

    def note(self, kind: str, publishers: Iterable[str], now_ns: int, breaks: Breaks) -> None:
        """Take note of all publishers of a topic that are of its kind.

        Args:
            kind: what they are, in the singular, as ``bridge`` or ``gate of ego_vehicle``.
            publishers: full names of their nodes.
            now_ns: steady time [ns].
            breaks: so far.
        """
        counts = Counter(publishers)
        if counts.total() < 2:
            self._alone[kind] = breaks
            return
        # A message of the second one may be here before the second one itself is seen.
        start = self._alone.get(kind, breaks)
        seen = _Several(0, '', now_ns, now_ns, kind in self._alone, start, start)
        _noted(self._seen, kind, seen, counts, breaks)

    def note_stranger(self, topic: str, name: str, now_ns: int, breaks: Breaks) -> None:
        """Take note of another program, ``name``, that publishes ``topic`` as well."""
        key = f'{name} also publishes {topic}'
        seen = _Several(0, '', now_ns, now_ns, has_come=False, start=breaks, newest=breaks)
        _noted(self._strangers, key, seen, Counter([name]), breaks)

    def findings(self, now_ns: int) -> list[Finding]:
        """Return who there was twice, or besides, until the steady time ``now_ns`` [ns]."""
        found = []
        for kind, seen in _flat(self._seen):
            where = f'in ROS domain {self.domain_id} for {seen.lasted_ns / 1e9:.1f} s'
            if seen.is_error:
                text = f'two {_plural(kind)} {where}: {seen.names}; end one, or give it another '
                found.append(Finding(f'{text}ROS_DOMAIN_ID', is_error=True))
            elif now_ns - seen.last_ns <= LEASE_NS:
                text = f'{kind}: {seen.names} {where}; what a killed process left goes within 20 s'
                found.append(Finding(f'{text}, else end one', is_error=False))
        for what, seen in _flat(self._strangers):
            if seen.grown or now_ns - seen.last_ns <= LEASE_NS:
                text = f'{what}, {seen.lasted_ns / 1e9:.1f} s so far: what it sends there breaks '
                found.append(Finding(f'{text}the lockstep; end it', is_error=seen.grown > 0))
        return found


@dataclass
class _Several:
    """Publishers of one topic, from when they were first seen until they were last seen.

    Attributes:
        count: how many at most.
        names: of their nodes.
        first_ns: when they were first seen [ns, steady].
        last_ns: when they were last seen.
        has_come: whether one of them came while the other one was there.
        start: breaks before.
        newest: breaks until now.
        broke_ns: when frames first and last broke meanwhile; empty if never.
    """

    count: int
    names: str
    first_ns: int
    last_ns: int
    has_come: bool
    start: Breaks
    newest: Breaks
    broke_ns: list[int] = field(default_factory=list)

    def note(self, counts: Counter[str], now_ns: int, breaks: Breaks) -> None:
        """Take note that they are there still."""
        self.names, self.last_ns = _named(counts), now_ns
        self.count = max(self.count, counts.total())
        if breaks.total > self.newest.total:
            self.broke_ns = [*self.broke_ns[:1], now_ns]
        self.newest = breaks

    @property
    def lasted_ns(self) -> int:
        return self.last_ns - self.first_ns

    @property
    def grown(self) -> int:
        """Breaks while they were there."""
        return self.newest.total - self.start.total

    @property
    def is_error(self) -> bool:
        """Whether one of them cannot be what a killed process left."""
        if self.lasted_ns > LEASE_NS or (self.grown > 1 and not self.has_come):
            return True
        # Each bridge that follows another makes time run back once.
        runs_back = self.newest.restarts - self.start.restarts
        return runs_back > self.count - 1 or (
            bool(self.broke_ns) and self.broke_ns[-1] - self.broke_ns[0] > BURST_NS
        )


def _noted(
    seen: dict[str, list[_Several]],
    key: str,
    new: _Several,
    counts: Counter[str],
    breaks: Breaks,
) -> None:
    """Enter a look: those that were there still, or several once more, as ``new``."""
    times = seen.setdefault(key, [])
    if not times or new.last_ns - times[-1].last_ns > AGAIN_NS:
        times.append(new)
    times[-1].note(counts, new.last_ns, breaks)


def _flat(seen: dict[str, list[_Several]]) -> list[tuple[str, _Several]]:
    return [(key, one) for key, times in seen.items() for one in times]


def _named(counts: Counter[str]) -> str:
    return ' and '.join(
        name if count == 1 else f'{name} {"twice" if count == 2 else f"{count} times"}'
        for name, count in sorted(counts.items())
    )


def _plural(kind: str) -> str:
    noun, of, role = kind.partition(' of ')
    return f'{noun}s{of}{role}'
