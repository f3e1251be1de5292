# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the loop drives, and as its policy was trained: counts in, findings out.

The same rules for agent, gate, synchronizer, doctor, demo, evaluation and replay. Each finding is
one sentence with cause and remedy. Pure: no ROS, no clocks.

==========================  ====================================================================
finding                     from
==========================  ====================================================================
frames without a command    outcomes of the newest frames, or of a whole drive
frames without an image     stamps of images and odometry: missing, constant, running back, never
or odometry                 equal, or of different rates
other rate than trained     stamps of the frames that were answered, and the policy's manifest
other camera than trained   image size, camera_info, and the policy's manifest
the car stands              commanded speed and odometry (:mod:`td3_agent.driving.input_watch`)
several of one kind         publishers of a topic that may have one only
                            (:mod:`td3_agent.driving.endpoints`)
==========================  ====================================================================
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.gate import Outcome
from td3_agent.driving.geometry import GAP_NS, NANOSECONDS_PER_SECOND
from td3_agent.driving.ledger import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Newest frames that count: five seconds at 20 Hz.
WINDOW_FRAMES = 100
# One second at 20 Hz; a fraction of fewer frames means little.
LEAST_FRAMES = 20
# A loaded machine loses single frames; a wrong camera loses one in ten or more.
MOST_FRACTION = 0.05
LEAST_BAD_FRAMES = 3
# Beyond this fraction the loop does not drive: an error, not a warning.
MOSTLY = 0.5
# Of the trained rate. Stamps are exact in lockstep; free-running drives vary by some per cent.
RATE_TOLERANCE = 0.09
# A smaller difference is rounding.
FOV_TOLERANCE_DEG = 1.0
ASPECT_TOLERANCE = 0.02
# Newest halves of frames whose other half may be in transit.
IN_FLIGHT = 2

REMEDIES = {
    Outcome.NO_COMMAND.value: 'is td3_agent active, and does it get image and odometry?',
    Outcome.NO_ODOMETRY.value: 'does the bridge publish odometry, stamped as /clock?',
    Outcome.NO_VEHICLE_INFO.value: 'does the bridge publish vehicle_info?',
    Outcome.INVALID_COMMAND.value: 'see the log of td3_agent',
    Outcome.SILENCE.value: 'are synchronizer and bridge running?',
    Outcome.IN_ADVANCE.value: 'an idle stop was sent because no frame came',
    Outcome.IDLE.value: 'the diagnostics of the synchronizer name what it waits for',
}
OTHER_REMEDY = "is the gate running, and is it the vehicle's only one?"
COMMANDLESS = 'without the command of the driver'
WITHOUT_COMMAND, LATE_COMMAND = 'without_command', 'late_command'  # keys of findings
LATE_REMEDY = (
    'the commands come too late: see what else uses the processor, or raise deadline_s '
    'and the wait of the bridge'
)


def is_too_much(bad: int, frames: int) -> bool:
    """Whether so many bad frames are more than an accident."""
    return bad == frames > 0 or (bad >= LEAST_BAD_FRAMES and bad > MOST_FRACTION * frames)


def outcome_findings(
    outcomes: Mapping[str, int], *, late: int = 0, regular: str = ''
) -> list[Finding]:
    """Return what is wrong with frames, by their outcomes.

    Args:
        outcomes: number of each.
        late: commands that came after their frame was stopped.
        regular: which frames are bad, such as ``every second frame is``; empty names their number.
    """
    outcomes = {name: n for name, n in outcomes.items() if name != SKIPPED}
    frames = sum(outcomes.values())
    bad = frames - outcomes.get(Outcome.OK.value, 0)
    if not is_too_much(bad, frames):
        return []
    names = {name: n for name, n in outcomes.items() if name != Outcome.OK.value and n}
    usual = max(names, key=lambda name: names[name])
    remedy = REMEDIES.get(usual, OTHER_REMEDY)
    if usual == Outcome.NO_COMMAND.value and late >= MOSTLY * bad:
        remedy = LATE_REMEDY
    listed = ', '.join(f'{name} {n}' for name, n in sorted(names.items()))
    text = f'{bad} of {frames} frames {COMMANDLESS} ({listed}): {remedy}'
    if regular:
        text = f'{regular} {COMMANDLESS} ({usual}): {remedy}'
    key = LATE_COMMAND if remedy is LATE_REMEDY else WITHOUT_COMMAND
    return [Finding(text, is_error=bad > MOSTLY * frames, key=key)]


def drive_findings(outcomes: Mapping[str, int]) -> list[Finding]:
    """Return what is wrong with a whole drive, by the outcomes of its frames, as errors."""
    return [replace(found, is_error=True) for found in outcome_findings(outcomes)]


class OutcomeWindow:
    """Outcomes of the newest frames."""

    def __init__(self) -> None:
        self._outcomes: deque[str] = deque(maxlen=WINDOW_FRAMES)
        self._late: deque[int] = deque(maxlen=WINDOW_FRAMES)  # numbers of frames
        self._frames = 0

    def add(self, outcome: str) -> None:
        self._frames += 1
        self._outcomes.append(outcome)

    def add_late(self) -> None:
        """Note a command that came after its frame was stopped."""
        self._late.append(self._frames)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the newest frames; nothing while they are few."""
        if len(self._outcomes) < LEAST_FRAMES:
            return []
        bad = [i for i, outcome in enumerate(self._outcomes) if outcome != Outcome.OK.value]
        late = sum(number > self._frames - len(self._outcomes) for number in self._late)
        # Rounded: a text that changes with every frame would be logged with every frame.
        fraction = f'about {_tens(len(bad), len(self._outcomes))} % of the frames are'
        which = f'{regular} is' if (regular := _regular(bad)) else fraction
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
        least: minimum number of stamps for a finding.
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
        return [
            Finding(
                f'{text} simulated time of the frame', zeros > MOSTLY * count, f'{what}_stamps'
            )
        ]
    if len(set(stamps_ns)) == 1:
        text = f'{what} stamps stand still at {seconds(stamps_ns[0])}: header.stamp must be the'
        return [
            Finding(f'{text} simulated time of the frame', is_error=True, key=f'{what}_stamps')
        ]
    back = sum(after <= before for before, after in pairwise(stamps_ns))
    if is_too_much(back, count):
        text = f'{what} stamps repeat or run back, {back} of {count}: end all but one publisher'
        # Repeated messages do no harm.
        return [Finding(text, is_error=False, key=f'{what}_stamps')]
    return []


def _are_seldom_equal(images: NDArray[np.int64], motions: NDArray[np.int64]) -> bool:
    """Whether most of the rarer stamps have no equal, in the time that both cover."""
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
        text += f'images are near {seconds(images[-1])}, odometry near {seconds(motions[-1])}'
        text += '; both must be stamped with simulated time'
    else:
        text += f'images are {abs(middle)} ns {"later" if middle > 0 else "earlier"}'
        text += '; both must carry the stamp of their frame'
    return Finding(text, is_error=True, key='unequal_stamps')


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
    return [Finding(text, is_error=len(lacking) > MOSTLY * len(inside), key=f'no_{what}')]


def seconds(stamp_ns: int) -> str:
    """Return a stamp [ns] for a sentence."""
    return f'{Decimal(int(stamp_ns)).scaleb(-9).normalize():f} s'  # exact, also since 1970


# ---- What the policy was trained with -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """Size and lens of a camera.

    Attributes:
        width_px: image columns.
        height_px: image rows.
        fov_deg: horizontal field of view; None where it is not known.
    """

    width_px: int
    height_px: int
    fov_deg: float | None = None

    def __post_init__(self) -> None:
        for name, side in (('width_px', self.width_px), ('height_px', self.height_px)):
            if side < 1:
                raise ValueError(f'{name} must be >= 1 [px], got {side}')
        if self.fov_deg is not None and not 0.0 < self.fov_deg < 180.0:
            raise ValueError(f'fov_deg must be in (0, 180) [deg], got {self.fov_deg}')

    def __str__(self) -> str:
        fov = '' if self.fov_deg is None else f' {self.fov_deg:.4g} deg'
        return f'{self.width_px}x{self.height_px}{fov}'


def field_of_view_deg(width_px: int, focal_px: float) -> float | None:
    """Return the horizontal field of view of a pinhole camera [deg]; None if it has none."""
    if not (math.isfinite(focal_px) and focal_px > 0.0 and width_px > 0):
        return None
    return math.degrees(2.0 * math.atan(width_px / (2.0 * focal_px)))


def camera_findings(trained: CameraView | None, got: CameraView | None) -> list[Finding]:
    """Return how a camera differs from the one that the policy was trained with.

    A larger image of the same shape makes no difference: images are scaled.
    """
    if trained is None or got is None:
        return []
    reasons = []
    aspect = got.width_px * trained.height_px / (got.height_px * trained.width_px)
    if abs(aspect - 1.0) > ASPECT_TOLERANCE:
        reasons.append('images of another shape are distorted')
    elif got.width_px < trained.width_px:
        reasons.append('smaller images lose detail')
    known = None not in {trained.fov_deg, got.fov_deg}
    if known and abs((trained.fov_deg or 0.0) - (got.fov_deg or 0.0)) > FOV_TOLERANCE_DEG:
        reasons.append('another field of view changes all distances')
    if not reasons:
        return []
    text = f'the policy was trained with a camera of {trained}, got {got}: {", ".join(reasons)}; '
    text += f'set the camera to {trained}, or train with this one'
    return [Finding(text, is_error=False, key='camera')]


def rate_findings(
    trained_hz: float | None, answered_hz: float | None, images_hz: float | None = None
) -> list[Finding]:
    """Return how the rate of the frames differs from the one the policy was trained at.

    Args:
        trained_hz: of the policy's manifest; None for other drivers.
        answered_hz: of the answered frames; None while it is not known.
        images_hz: of the images; None for that of the answered frames.
    """
    if trained_hz is None or answered_hz is None:
        return []
    if abs(answered_hz / trained_hz - 1.0) <= RATE_TOLERANCE:
        return []
    what, remedy = 'images come', f'a camera and a bridge step of {1.0 / trained_hz:.3g} s'
    if images_hz is not None and abs(images_hz / answered_hz - 1.0) > RATE_TOLERANCE:
        what, remedy = 'frames are answered', f'rate_hz:={trained_hz:.3g} and free processor time'
    text = f'{what} at {answered_hz:.3g} Hz, the policy was trained at {trained_hz:.3g} Hz'
    text += f': it needs {remedy}, or training at this rate'
    return [Finding(text, is_error=False, key='rate')]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the driver was trained with; None where it was not trained.

    Attributes:
        rate_hz: frames per simulated second.
        camera: size and lens.
        encodings: of images; empty for all known ones.
    """

    rate_hz: float | None = None
    camera: CameraView | None = None
    encodings: tuple[str, ...] = ()


def replay_findings(  # noqa: PLR0913  keywords only
    images_ns: Sequence[int],
    motions_ns: Sequence[int],
    answered_ns: Sequence[int],
    *,
    rejected: int,
    contract: Contract,
    camera: CameraView | None,
) -> list[Finding]:
    """Return what is wrong with a bag and its replay; an error if most images gave no action.

    Args:
        images_ns: stamps of the images, in the order of the bag [ns].
        motions_ns: stamps of the odometry [ns].
        answered_ns: stamps of the frames that the driver answered [ns].
        rejected: number of rejected images.
        contract: what the driver was trained with.
        camera: of the bag.
    """
    found = stamp_findings(images_ns, motions_ns, LEAST_BAD_FRAMES)
    if len(answered_ns) >= LEAST_BAD_FRAMES:
        images_hz = rate_hz(sorted(images_ns))
        found += rate_findings(contract.rate_hz, rate_hz(answered_ns), images_hz)
    found += camera_findings(contract.camera, camera)
    warnings = [replace(finding, is_error=False) for finding in found]
    count = len(images_ns) + rejected
    if len(answered_ns) >= MOSTLY * count:
        return warnings
    text = f'{len(answered_ns)} of {count} images were answered, expected most of them'
    return [Finding(text, is_error=True, key='unanswered'), *warnings]
