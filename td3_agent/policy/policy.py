# SPDX-License-Identifier: Apache-2.0
"""Policy: an actor as a driver, one observation in, one checked action out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from td3_agent.policy.actor_config import DRIVING_ACTOR, ActorConfig
from td3_agent.policy.networks import Actor, build_actor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.driving.observation import Observation
    from td3_agent.driving.route import Route

WARM_UP_CALLS = 3


class PolicyError(RuntimeError):
    """The policy cannot answer: the observation does not fit it, or its answer is no number."""


class Policy:
    """Runs an actor on single observations; implements the Driver protocol.

    The answer depends on nothing but the observation: :meth:`reset` has nothing to forget.
    The caller decides on threads: ``torch.set_num_threads(1)`` is fastest for one small image.
    """

    def __init__(self, actor: Actor, *, trained: bool, device: str = 'cpu') -> None:
        """Take over an actor for inference and warm it up.

        Args:
            actor: the network; its mode, device and gradients are changed here.
            trained: whether the weights come from training; for the reader of a report.
            device: torch device that computes.

        Raises:
            PolicyError: a weight is not finite.
        """
        for name, tensor in actor.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise PolicyError(f'weight {name} is not finite')
        self._actor = actor.to(device).eval().requires_grad_(requires_grad=False)
        self._device = torch.device(device)
        self._low = np.array(actor.config.action_low, dtype=np.float32)
        self._high = np.array(actor.config.action_high, dtype=np.float32)
        self._trained = trained
        self.warm_up()

    @property
    def config(self) -> ActorConfig:
        """Architecture of the actor."""
        return self._actor.config

    @property
    def actor(self) -> Actor:
        """The network itself, for saving."""
        return self._actor

    @property
    def trained(self) -> bool:
        """Whether the weights come from training."""
        return self._trained

    def reset(self) -> None:
        """Begin a new drive; a policy without memory has nothing to forget."""

    def set_route(self, route: Route) -> None:
        """Do nothing: a policy sees of the route what its observation holds."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (actions,) float32 within the bounds.

        Raises:
            PolicyError: shape or type does not fit, or the answer is not finite.
        """
        return self.action(observation.state, observation.image)

    def action(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Return the action for a state vector and, where the actor has eyes, an image stack.

        Args:
            state: (state_size,) float32.
            image: (C, H, W) uint8, ignored by an actor without image input.

        Raises:
            PolicyError: shape or type does not fit, or the answer is not finite.
        """
        config = self._actor.config
        _check('state', state, (config.state_size,), np.float32)
        if config.image_shape is None:
            image = None
        else:
            _check('image', image, config.image_shape, np.uint8)
        answer = self._answer(state, image)
        if not np.isfinite(answer).all():
            raise PolicyError(f'action is not finite: {answer.tolist()}')
        clipped: NDArray[np.float32] = np.clip(answer, self._low, self._high)
        return clipped

    def _answer(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Return what the network says, (actions,), of inputs that fit it."""
        pixels = None if image is None else self._batch_of_one(image)
        with torch.inference_mode():
            answer = self._actor(self._batch_of_one(state), pixels).squeeze(0)
        values: NDArray[np.float32] = answer.cpu().numpy()
        return values

    def _batch_of_one(self, values: object) -> torch.Tensor:
        """Copy an array to the device; torch warns of arrays that it may not write to."""
        return torch.from_numpy(np.array(values)[np.newaxis]).to(self._device)

    def warm_up(self, calls: int = WARM_UP_CALLS) -> None:
        """Answer a few empty observations, so that the first real one is not the slowest."""
        config = self._actor.config
        state = np.zeros(config.state_size, dtype=np.float32)
        shape = config.image_shape
        image = None if shape is None else np.zeros(shape, dtype=np.uint8)
        for _ in range(calls):
            self.action(state, image)


def untrained_policy(seed: int, config: ActorConfig = DRIVING_ACTOR) -> Policy:
    """Return a policy with fresh weights: the zero line that training has to beat."""
    return Policy(build_actor(config, torch.Generator().manual_seed(seed)), trained=False)


def _check(name: str, value: object, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Refuse what the network would misread.

    Raises:
        PolicyError: naming what was given and what was expected.
    """
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == dtype:
        return
    got = f'{value.shape} {value.dtype}' if isinstance(value, np.ndarray) else type(value).__name__
    raise PolicyError(f'{name} must be {shape} {dtype.__name__}, got {got}')
