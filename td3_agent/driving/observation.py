# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From camera image and odometry to the observation of a policy.

All arithmetic on pixels is exact (integers, or floats that hold integers), so that one image gives
the same bytes in every process and on every machine: the observation hashes of the ledger need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import ACTION_SIZE, CONTROL_MAX_SPEED_MPS
from td3_agent.driving.parameters import Params, param
from td3_agent.driving.reports import shown
from td3_agent.driving.route import Route, RouteTracker

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from td3_agent.driving.vehicle import VehicleState

# Encoding: bytes per pixel, and the positions of red, green and blue in a pixel.
ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    'bgra8': (4, (2, 1, 0)),
    'rgba8': (4, (0, 1, 2)),
    'bgr8': (3, (2, 1, 0)),
    'rgb8': (3, (0, 1, 2)),
    'mono8': (1, (0, 0, 0)),
}
MAX_IMAGE_SIDE_PX = 8192
# ITU-R BT.601 luma in 1/256: exact in 16 bit, within one level of the real-valued formula.
LUMA_RED, LUMA_GREEN, LUMA_BLUE = 77, 150, 29
LUMA_HALF = 128
BLOCK_PX = 1 << 15  # processed at once: 384 kB with intermediate results
WEIGHT_ONE = 1 << 16  # area weights are integers that sum to this
STATE_SIZE = 2 + ACTION_SIZE  # without route points
PATH_POINTS = 8
PATH_SPACING_M = 3.0
PATH_SCALE_M = PATH_POINTS * PATH_SPACING_M
LOST_DISTANCE_M = 20.0  # farther from the route its points are zero


class ImageError(ValueError):
    """An image was rejected; the text names field, value and what was expected."""


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """An uncompressed image as sensor_msgs/Image describes it; pixels are not copied.

    Attributes:
        data: ``step * height`` bytes, rows top to bottom.
        height: rows.
        width: columns.
        encoding: one of :data:`ENCODINGS`.
        step: bytes per row, padding included.

    Raises:
        ImageError: the fields contradict each other; checked before any pixel is touched.
    """

    data: Buffer
    height: int
    width: int
    encoding: str
    step: int

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            known = ', '.join(ENCODINGS)
            raise ImageError(f'encoding must be one of {known}, got {shown(self.encoding)}')
        for name, side in (('height', self.height), ('width', self.width)):
            if not 1 <= side <= MAX_IMAGE_SIDE_PX:
                raise ImageError(f'{name} must be in [1, {MAX_IMAGE_SIDE_PX}] [px], got {side}')
        least = self.width * ENCODINGS[self.encoding][0]
        if self.step < least:
            raise ImageError(
                f'step must be >= {least} [bytes] for width {self.width} and '
                f'{self.encoding}, got {self.step}'
            )
        size = memoryview(self.data).nbytes
        if size != self.step * self.height:
            raise ImageError(
                f'data must hold step * height = {self.step * self.height} bytes, got {size}'
            )

    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels, (height, width, bytes per pixel) uint8, without padding."""
        channels = ENCODINGS[self.encoding][0]
        rows: NDArray[np.uint8] = np.frombuffer(memoryview(self.data), dtype=np.uint8)
        rows = rows.reshape(self.height, self.step)
        return rows[:, : self.width * channels].reshape(self.height, self.width, channels)


@dataclass(frozen=True, kw_only=True)
class ObservationSpec(Params):
    """Settings of observations; part of a policy's input contract."""

    image_height_px: int = param(84, 'rows of the network input', unit='px', low=8, high=1024)
    image_width_px: int = param(84, 'columns of the network input', unit='px', low=8, high=1024)
    frame_stack: int = param(4, 'frames in one observation, oldest first', low=1, high=32)
    crop_top: float = param(0.0, 'fraction of the image cut off above (sky)', low=0.0, high=0.9)
    path: bool = param(
        default=False, text='whether observations hold the points of the route ahead'
    )

    @property
    def state_size(self) -> int:
        """Length of the state vector."""
        return STATE_SIZE + (2 * PATH_POINTS if self.path else 0)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The input of a driver.

    Attributes:
        image: (stack, height, width) uint8, grey, oldest frame first.
        state: (state_size,) float32, see :meth:`ObservationBuilder.build`.
        vehicle: motion of the vehicle in the same frame.
    """

    image: NDArray[np.uint8]
    state: NDArray[np.float32]
    vehicle: VehicleState

    def sha256(self) -> str:
        """Return the hash of everything a policy reads: image, then state."""
        digest = hashlib.sha256(self.image.data)
        digest.update(self.state.data)
        return digest.hexdigest()


class ObservationBuilder:
    """Keeps the frame stack and turns image and motion into an :class:`Observation`."""

    def __init__(self, spec: ObservationSpec | None = None) -> None:
        self._spec = spec or ObservationSpec()
        self._stack: NDArray[np.uint8] | None = None
        self._tracker: RouteTracker | None = None

    @property
    def needs_route(self) -> bool:
        """Whether nothing can be built before :meth:`set_route`."""
        return self._spec.path

    def set_route(self, route: Route) -> None:
        self._tracker = RouteTracker(route, LOST_DISTANCE_M)

    def reset(self) -> None:
        """Forget the stacked frames; the next one fills the whole stack."""
        self._stack = None
        if self._tracker is not None:
            self._tracker.reset()

    def preprocess(self, image: ImageView) -> NDArray[np.uint8]:
        """Return one image as the network gets it, (height, width) uint8; nothing is kept."""
        cut_rows = int(image.height * self._spec.crop_top)
        grey = grey_from_image(image, cut_rows)
        return resize_area(grey, self._spec.image_height_px, self._spec.image_width_px)

    def build(
        self, image: ImageView, state: VehicleState, previous_action: NDArray[np.float32]
    ) -> Observation:
        """Stack the image and return the observation.

        ====  =============================  ========
        Num   state component                unit
        ====  =============================  ========
        0     speed, signed, / 8.33          m/s
        1     yaw rate, left positive        rad/s
        2, 3  previous action                [-1, 1]
        4, 5  next point of the route, / 24  m
        ...   eight of them, 3 m apart       m
        ====  =============================  ========

        Route points (forward, left of the vehicle) exist only with ``path`` in the spec; farther
        than 20 m from the route they are zero.

        Raises:
            ValueError: the spec has ``path`` and there is no route.
        """
        return self.build_from(self.preprocess(image), state, previous_action)

    def build_from(
        self,
        preprocessed: NDArray[np.uint8],
        state: VehicleState,
        previous_action: NDArray[np.float32],
    ) -> Observation:
        """Do as :meth:`build` with an image that :meth:`preprocess` has returned."""
        self._stack = self._pushed(preprocessed)
        vector = np.zeros(self._spec.state_size, dtype=np.float32)
        vector[0] = state.speed_mps / CONTROL_MAX_SPEED_MPS
        vector[1] = state.yaw_rate_radps
        vector[2:STATE_SIZE] = previous_action
        if self._spec.path:
            vector[STATE_SIZE:] = self._path(state).ravel() / PATH_SCALE_M
        return Observation(image=self._stack, state=vector, vehicle=state)

    def _path(self, state: VehicleState) -> NDArray[np.float64]:
        """Return the route ahead, (PATH_POINTS, 2) forward and left of the vehicle [m]."""
        if self._tracker is None:
            raise ValueError('the observation has a path, but there is no route')
        s_m = self._tracker.locate(state.x_m, state.y_m)
        if s_m is None:
            return np.zeros((PATH_POINTS, 2))
        ahead_m = s_m + PATH_SPACING_M * np.arange(1, PATH_POINTS + 1)
        return in_vehicle_frame(self._tracker.route.sample_array(ahead_m), state)

    def _pushed(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a new stack with ``frame`` last; stacks that were returned do not change."""
        if self._stack is None:
            return np.repeat(frame[np.newaxis], self._spec.frame_stack, axis=0)
        stack = np.empty_like(self._stack)
        stack[:-1] = self._stack[1:]
        stack[-1] = frame
        return stack


def in_vehicle_frame(points: NDArray[np.float64], state: VehicleState) -> NDArray[np.float64]:
    """Return (K, 2) forward and left of the vehicle [m] for (K, >= 2) map positions [m]."""
    cos, sin = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
    dx, dy = points[:, 0] - state.x_m, points[:, 1] - state.y_m
    return np.column_stack((cos * dx + sin * dy, cos * dy - sin * dx))


def grey_from_image(image: ImageView, first_row: int = 0) -> NDArray[np.uint8]:
    """Return the luma of an image from ``first_row`` on, (rows, width) uint8 (ITU-R BT.601)."""
    if ENCODINGS[image.encoding][0] == 4:
        return _grey_from_words(image, first_row)
    pixels = image.pixels()[first_row:]
    if image.encoding == 'mono8':
        return pixels[:, :, 0]
    red, green, blue = ENCODINGS[image.encoding][1]
    luma = np.multiply(pixels[:, :, green], LUMA_GREEN, dtype=np.uint16)
    luma += np.multiply(pixels[:, :, red], LUMA_RED, dtype=np.uint16)
    luma += np.multiply(pixels[:, :, blue], LUMA_BLUE, dtype=np.uint16)
    luma += LUMA_HALF  # round; 255 * 256 + 128 still fits 16 bits
    luma >>= 8
    return luma.astype(np.uint8)


def _grey_from_words(image: ImageView, first_row: int) -> NDArray[np.uint8]:
    """Return the luma of four-byte pixels, each taken as one little-endian number.

    This suits vector instructions; blocks stay in the cache.
    """
    words: NDArray[np.uint32] = np.ndarray(
        (image.height, image.width), '<u4', memoryview(image.data), strides=(image.step, 4)
    )
    words = words[first_row:]
    grey = np.empty(words.shape, dtype=np.uint8)
    rows = max(1, BLOCK_PX // image.width)
    scratch = np.empty((2, min(rows, len(words)), image.width), dtype=np.uint32)
    for start in range(0, len(words), rows):
        block = words[start : start + rows]
        luma = _luma_of_words(block, image.encoding, scratch[:, : len(block)])
        np.copyto(grey[start : start + rows], luma, casting='unsafe')
    return grey


def _luma_of_words(
    words: NDArray[np.uint32], encoding: str, scratch: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Return the rounded luma of each word, in ``scratch[0]``; ``scratch[1]`` is used up.

    One product serves bytes 0 and 2: (b0 + b2 2^16) (w0 2^16 + w2) has b0 w0 + b2 w2 in its
    upper half, and b0 w2 < 2^16 carries nothing into it. Green is byte 1 in every encoding.
    """
    weights = (LUMA_RED, LUMA_BLUE) if ENCODINGS[encoding][1][0] == 0 else (LUMA_BLUE, LUMA_RED)
    luma: NDArray[np.uint32] = scratch[0]
    green: NDArray[np.uint32] = scratch[1]
    np.bitwise_and(words, np.uint32(0x00FF00FF), out=luma)
    np.multiply(luma, np.uint32(weights[0] << 16 | weights[1]), out=luma)
    np.bitwise_and(words, np.uint32(0x0000FF00), out=green)
    np.multiply(green, np.uint32(LUMA_GREEN << 8), out=green)
    luma += green
    luma += np.uint32(LUMA_HALF << 16)
    luma >>= np.uint32(24)
    return luma


def resize_area(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize by area: each output pixel is the mean of the input area it covers.

    Args:
        grey: (H, W) uint8.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (height, width) uint8, exact to the rounding of the area weights (1/65536).
    """
    if grey.shape == (height, width):
        return grey
    # Sums of rows are integers below 255 * 65536 < 2^24: float32 holds every one exactly.
    rows = _weighted_rows(grey, height, np.float32)
    columns = _weighted_rows(np.ascontiguousarray(rows.T, dtype=np.float64), width, np.float64)
    one = float(WEIGHT_ONE) * WEIGHT_ONE
    resized: NDArray[np.uint8] = ((columns.T + one / 2.0) / one).astype(np.uint8)
    return resized


def _weighted_rows(values: NDArray[Any], size: int, kind: type[Any]) -> NDArray[Any]:
    """Return (size, columns) of ``kind``: weighted sums of input rows, integers held exactly."""
    taps, weights = _area_taps(values.shape[0], size)
    row = np.empty((size, values.shape[1]), dtype=values.dtype)
    term = np.empty(row.shape, dtype=kind)
    total = np.zeros(row.shape, dtype=kind)
    for tap, weight in zip(taps, weights.astype(kind), strict=True):
        np.take(values, tap, axis=0, out=row, mode='clip')  # no index is out of range
        np.copyto(term, row)
        term *= weight[:, np.newaxis]
        total += term
    return total


@lru_cache(maxsize=32)
def _area_taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return (taps, weights), each (K, target): input rows of each output row, and their weights.

    Weights are integers that sum to WEIGHT_ONE for every output row.
    """
    edges = np.arange(target + 1) * source / target
    first = np.floor(edges[:-1]).astype(np.intp)
    count = int(np.max(np.ceil(edges[1:]).astype(np.intp) - first))
    taps = first[np.newaxis, :] + np.arange(count)[:, np.newaxis]
    overlap = np.minimum(taps + 1, edges[1:]) - np.maximum(taps, edges[:-1])
    fraction = np.clip(overlap, 0.0, None) * (target / source)
    bounds = np.rint(np.cumsum(fraction, axis=0) * WEIGHT_ONE)  # differences sum exactly
    weights = np.diff(bounds, axis=0, prepend=0.0)
    return np.minimum(taps, source - 1), weights
