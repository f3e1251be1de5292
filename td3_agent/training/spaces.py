# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Conversion between Gymnasium spaces and the learner's observations and actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
import numpy as np

from td3_agent.td3.transitions import ObservationShape, Observed

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

PARTS = ('image', 'state', 'privileged', 'expert')


@dataclass(frozen=True)
class TaskSpaces:
    """Observations and actions of a task.

    Attributes:
        shape: sizes of an observation.
        is_dict: whether observations are dicts.
        low: (actions,) float32, lower limit of each action.
        high: (actions,) float32, upper limit of each action.
    """

    shape: ObservationShape
    is_dict: bool
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, env: gymnasium.Env[Any, Any], frame_stack: int = 0) -> TaskSpaces:
        """Read the spaces of an environment.

        Args:
            env: its observations are a Box of numbers, a uint8 Box of an image (C, H, W), or a
                Dict of ``image``, ``state``, ``privileged`` and ``expert``, an action.
            frame_stack: frames in an image; 0 uses the environment's own.

        Raises:
            ValueError: observations or actions are of another kind.
        """
        space = env.observation_space
        is_dict = isinstance(space, spaces.Dict)
        parts: dict[str, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
        if not is_dict:
            parts = {'image' if getattr(space, 'dtype', None) == np.uint8 else 'state': space}
        faults = _part_faults(parts)
        if faults:
            raise ValueError('; '.join(faults))
        image = parts['image'].shape if 'image' in parts else None
        sizes = {name: parts[name].shape[0] if name in parts else 0 for name in PARTS[1:]}
        low, high = _limits(env.action_space)
        if sizes['expert'] not in {0, len(low)}:
            raise ValueError(f'expert must have {len(low)} numbers, got {sizes["expert"]}')
        shape = ObservationShape(
            state_size=sizes['state'],
            image_shape=image,
            frame_stack=1 if image is None else frame_stack or frames_of(env),
            privileged_size=sizes['privileged'] + sizes['expert'],
            expert_size=sizes['expert'],
        )
        return cls(shape, is_dict, low, high)

    def observed(self, observation: Any) -> Observed:  # noqa: ANN401  what Gymnasium returns
        """Return an observation of the environment in the buffer's form."""
        if self.is_dict:
            empty = np.zeros(0, np.float32)
            return Observed(
                observation.get('state', empty),
                observation.get('image'),
                self._privileged(observation),
            )
        if self.shape.image_shape is not None:
            return Observed(np.zeros(0, np.float32), observation)
        return Observed(observation)

    def _privileged(self, observation: dict[str, Any]) -> NDArray[np.float32] | None:
        """Return the privileged state, with the expert's action in [-1, 1] at its end."""
        known, expert = observation.get('privileged'), observation.get('expert')
        if expert is None:
            return known
        action = np.clip(normalised(expert, self.low, self.high), -1.0, 1.0).astype(np.float32)
        return action if known is None else np.concatenate((known, action))

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an action in [-1, 1] in the environment's units, within its limits."""
        wanted = denormalised(action, self.low, self.high)
        return np.asarray(np.clip(wanted, self.low, self.high), np.float32)


def common_spaces(envs: dict[str, gymnasium.Env[Any, Any]], frame_stack: int) -> TaskSpaces:
    """Return the common spaces of environments, given by id.

    Raises:
        ValueError: they differ.
    """
    (first_id, first), *others = (
        (env_id, TaskSpaces.of(env, frame_stack)) for env_id, env in envs.items()
    )
    for env_id, other in others:
        same_limits = all(
            np.array_equal(mine, theirs)
            for mine, theirs in ((first.low, other.low), (first.high, other.high))
        )
        if other.shape != first.shape or not same_limits:
            raise ValueError(f'{env_id} has other spaces than {first_id}')
    return first


def normalised(action: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return an action in the environment's units as the learner's, [-1, 1] per dimension."""
    return np.asarray((2.0 * action - (high + low)) / (high - low))


def denormalised(action: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return a normalised action in the environment's units."""
    return np.asarray((high + low) / 2.0 + (high - low) / 2.0 * action)


def frames_of(env: gymnasium.Env[Any, Any]) -> int:
    """Return the frame stack of an environment's images, 1 where it does not say."""
    inner = env.unwrapped
    inner = getattr(inner, 'spec_of_observation', inner)  # of td3_agent/Driving-v0
    return int(getattr(inner, 'frame_stack', 1))


def _part_faults(parts: dict[str, Any]) -> list[str]:
    faults = [f'observation part {name!r} is not one of {", ".join(PARTS)}' for name in parts]
    faults = [fault for fault, name in zip(faults, parts, strict=True) if name not in PARTS]
    for name in [name for name in parts if name in PARTS]:
        box, dimensions = parts[name], 3 if name == 'image' else 1
        if not isinstance(box, spaces.Box) or len(box.shape) != dimensions:
            faults.append(f'{name} must be a Box of {dimensions} dimensions, got {box}')
        elif (box.dtype == np.uint8) != (name == 'image'):
            kind = 'uint8' if name == 'image' else 'floating point'
            faults.append(f'{name} must be {kind}, got {box.dtype}')
    return faults


def _limits(space: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # noqa: ANN401
    """Return the limits of actions.

    Raises:
        ValueError: actions are not a bounded vector.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
        raise ValueError(f'actions must be a bounded Box of 1 dimension, got {space}')
    return space.low.astype(np.float32), space.high.astype(np.float32)
