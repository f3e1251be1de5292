# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The data of a replay buffer: observations, transitions, and fragments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ReplayError(ValueError):
    """Data to be stored, sampled or restored does not fit the buffer."""


@dataclass(frozen=True, kw_only=True)
class ObservationShape:
    """Sizes of an observation.

    Attributes:
        state_size: numbers in the state vector, >= 0.
        image_shape: (channels, height, width) of the uint8 image, None without images.
        frame_stack: how many successive frames the image's channels hold, oldest first;
            1 stores the image as it is.
        privileged_size: numbers for the critics only, >= 0.
        expert_size: the last of those, the expert's action.

    Raises:
        ReplayError: the channels are no multiple of the frames, or the observation is empty.
    """

    state_size: int
    image_shape: tuple[int, int, int] | None = None
    frame_stack: int = 1
    privileged_size: int = 0
    expert_size: int = 0

    def __post_init__(self) -> None:
        if self.state_size < 0 or self.privileged_size < 0:
            raise ReplayError(
                f'state_size and privileged_size must be >= 0, got {self.state_size} '
                f'and {self.privileged_size}'
            )
        if not 0 <= self.expert_size <= self.privileged_size:
            raise ReplayError(
                f'expert_size must be in [0, privileged_size = {self.privileged_size}], '
                f'got {self.expert_size}'
            )
        if self.image_shape is None:
            if self.state_size == 0:
                raise ReplayError('state_size must be > 0 without images')
            return
        if not 1 <= self.frame_stack <= 255 or self.image_shape[0] % self.frame_stack:
            raise ReplayError(
                f'frame_stack must divide the {self.image_shape[0]} channels of the image, '
                f'got {self.frame_stack}'
            )

    @property
    def frame_shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of one frame."""
        if self.image_shape is None:
            return None
        channels, height, width = self.image_shape
        return channels // self.frame_stack, height, width

    def check(self, observed: Observed) -> None:
        """Reject an observation of other sizes, and numbers that are not finite.

        Raises:
            ReplayError: naming value and expectation.
        """
        _check_vector('state', observed.state, self.state_size)
        _check_vector('privileged', observed.privileged, self.privileged_size)
        image = observed.image
        given = None if image is None else image.shape
        if given != self.image_shape or (image is not None and image.dtype != np.uint8):
            kind = '' if image is None else f' {image.dtype}'
            raise ReplayError(f'image must be {self.image_shape} uint8, got {given}{kind}')


class Observed(NamedTuple):
    """One observation.

    Attributes:
        state: (state_size,) float32.
        image: (C, H, W) uint8, oldest frame first; None without images.
        privileged: (privileged_size,) float32; None without.
    """

    state: NDArray[np.float32]
    image: NDArray[np.uint8] | None = None
    privileged: NDArray[np.float32] | None = None


class Sample(NamedTuple):
    """Transitions.

    Attributes:
        state: (B, state_size + privileged_size) float32, privileged numbers last.
        image: (B, C, H, W) uint8, None without images.
        action: (B, actions) float32 in [-1, 1].
        reward: (B, 1) float32, the discounted sum of up to ``n_step`` rewards.
        bootstrap: (B, 1) float32, factor of discount * value of the next observation: 0 where
            the episode terminated, else discount ** (steps summed - 1).
        next_state: as ``state``, after those steps.
        next_image: as ``image``, after those steps.
    """

    state: NDArray[np.float32]
    image: NDArray[np.uint8] | None
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    bootstrap: NDArray[np.float32]
    next_state: NDArray[np.float32]
    next_image: NDArray[np.uint8] | None


class Fragment(NamedTuple):
    """Successive observations of one stream and the steps between them, as in its slots.

    Attributes:
        frames: (N, pixels) uint8, newest frame of each observation.
        vectors: (N, state_size + privileged_size) float32.
        actions: (N, actions) float32, zeros where no step was taken.
        rewards: (N,) float32, likewise.
        bootstraps: (N,) float32, 0 where the episode terminated with the step.
        positions: (N,) uint8, steps since the episode began, at most ``frame_stack - 1``.
        has_action: (N,) bool, whether a step was taken.
        continues: whether the first observation repeats the last one of the previous fragment,
            now with its step.
        open: whether an episode is open at the end.
    """

    frames: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    bootstraps: NDArray[np.float32]
    positions: NDArray[np.uint8]
    has_action: NDArray[np.bool_]
    continues: bool
    open: bool

    @property
    def transitions(self) -> int:
        return int(self.has_action.sum())


def _check_vector(name: str, value: NDArray[np.float32] | None, size: int) -> None:
    """Reject vectors of another size, and numbers that are not finite.

    Raises:
        ReplayError: naming what was given and what was expected.
    """
    given = 0 if value is None else np.shape(value)
    if given not in {size, (size,)}:
        raise ReplayError(f'{name} must have {size} numbers, got {given}')
    if value is not None and not np.isfinite(value).all():
        raise ReplayError(f'{name} must be finite, got {value}')
