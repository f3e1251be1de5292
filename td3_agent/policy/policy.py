# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy under PyTorch: its networks, and the driver that runs them.

The actor follows TD3 (Fujimoto et al. 2018, arXiv:1802.09477, appendix C): two hidden layers of
256 and a tanh. Deviations, each against a saturated tanh, whose gradient is zero:

- the image features pass a projection, LayerNorm and tanh (as in DrQ, Kostrikov et al. 2020,
  arXiv:2004.13649, appendix B), so that the head gets numbers within [-1, 1];
- the last layer starts small (as in DDPG, Lillicrap et al. 2015, arXiv:1509.02971, section 7).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from td3_agent.policy.manifest import DRIVING_ACTOR, ActorConfig, Conv, conv_size
from td3_agent.policy.network_driver import NetworkDriver

if TYPE_CHECKING:
    from numpy.typing import NDArray


LAST_LAYER_BOUND = 3e-3  # Lillicrap et al. 2015, section 7


class Encoder(nn.Module):
    """Image stack to features: convolutions, projection, LayerNorm, tanh."""

    def __init__(
        self, image_shape: tuple[int, int, int], conv: tuple[Conv, ...], features: int
    ) -> None:
        """Build the layers; :func:`initialise` gives them their values.

        Args:
            image_shape: (channels, height, width).
            conv: (output channels, kernel, stride) of each convolution.
            features: size of the output.
        """
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for outputs, kernel, stride in conv:
            layers += [nn.Conv2d(channels, outputs, kernel, stride), nn.ReLU(inplace=True)]
            channels = outputs
            height, width = conv_size(height, kernel, stride), conv_size(width, kernel, stride)
        self.conv = nn.Sequential(*layers)
        self.projection = nn.Linear(channels * height * width, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, image: Tensor) -> Tensor:
        """Encode images.

        Args:
            image: (B, C, H, W) uint8.

        Returns:
            (B, features) float32 in [-1, 1].
        """
        if torch.is_grad_enabled():  # channels last: slower forwards alone, but far faster back
            # What contiguous(memory_format=torch.channels_last) makes of bytes, in a third of it.
            image = torch.stack(image.unbind(1), dim=-1).permute(0, 3, 1, 2)
        maps = self._maps_in_training(image) if self.training else self._maps(image)
        if maps.requires_grad:
            # flatten's own gradient is not
            maps.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        projected = self.projection(maps.flatten(1))
        return torch.tanh(self.norm(projected))

    def _maps(self, image: Tensor) -> Tensor:
        """Return the last convolution's output for pixels brought to [-0.5, 0.5]."""
        maps: Tensor = self.conv(image.float().div_(255.0).sub_(0.5))
        return maps

    def _maps_in_training(self, image: Tensor) -> Tensor:
        """Return the same, up to rounding, without two passes over all pixels of a batch.

        sum w (x / 255 - 0.5) + b = sum (w / 255) x + (b - 0.5 sum w)
        """
        first = self.conv[0]
        assert isinstance(first, nn.Conv2d)  # noqa: S101  for the type checker
        assert first.bias is not None  # noqa: S101  as above
        bias = first.bias - 0.5 * first.weight.sum(dim=(1, 2, 3))
        maps: Tensor = conv2d(image.float(), first.weight / 255.0, bias, first.stride)
        for layer in list(self.conv)[1:]:
            maps = layer(maps)
        return maps


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


class Actor(nn.Module):
    """Deterministic policy: observation to an action within its bounds."""

    scale: Tensor
    bias: Tensor

    def __init__(self, config: ActorConfig) -> None:
        """Build the layers; :func:`initialise` gives them their values."""
        super().__init__()
        self.config = config
        self.encoder = (
            None
            if config.image_shape is None
            else Encoder(config.image_shape, config.conv, config.features)
        )
        inputs = config.state_size + (0 if self.encoder is None else config.features)
        layers: list[nn.Module] = []
        for units in config.hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU(inplace=True)]
            inputs = units
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, len(config.action_low))
        # Not in the state dict: they follow from the config and can so never contradict it.
        low, high = torch.tensor(config.action_low), torch.tensor(config.action_high)
        self.register_buffer('scale', (high - low) / 2.0, persistent=False)
        self.register_buffer('bias', (high + low) / 2.0, persistent=False)

    def pre_tanh(self, state: Tensor, image: Tensor | None = None) -> Tensor:
        """Output of the last layer, before it is squashed; large values mean saturation.

        Args:
            state: (B, state_size) float32.
            image: (B, C, H, W) uint8, exactly when the config has an image shape.

        Returns:
            (B, actions).
        """
        return self.pre_tanh_from(self.inputs(state, image))

    def inputs(self, state: Tensor, image: Tensor | None = None) -> Tensor:
        """Return the input of the first hidden layer, (B, features + state_size)."""
        if (self.encoder is None) != (image is None):
            wanted = 'no image' if self.encoder is None else 'an image'
            raise ValueError(f'this actor takes {wanted}')
        if self.encoder is None:
            return state
        return torch.cat((self.encoder(image), state), dim=1)

    def pre_tanh_from(self, inputs: Tensor) -> Tensor:
        """Return :meth:`pre_tanh` for what :meth:`inputs` returned."""
        output: Tensor = self.head(self.trunk(inputs))
        return output

    def forward(self, state: Tensor, image: Tensor | None = None) -> Tensor:
        """Return the action for each observation; arguments as in :meth:`pre_tanh`.

        Returns:
            (B, actions) float32, each within its own bounds.
        """
        return self.bias + self.scale * torch.tanh(self.pre_tanh(state, image))


def build_actor(config: ActorConfig, generator: torch.Generator) -> Actor:
    """Return an actor with fresh weights; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):  # the layers' own initialisation draws from it
        actor = Actor(config)
    initialise(actor, generator)
    with torch.no_grad():
        for parameter in actor.head.parameters():
            parameter.uniform_(-LAST_LAYER_BOUND, LAST_LAYER_BOUND, generator=generator)
    return actor


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill convolutions and linear layers uniformly within +-1/sqrt(fan in), PyTorch's default.

    In module order, so that one seed gives one set of weights.
    """
    with torch.no_grad():
        for layer in module.modules():
            if not isinstance(layer, (nn.Conv2d, nn.Linear)):
                continue
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)


class Policy(NetworkDriver):
    """Runs an actor under PyTorch.

    The caller decides on threads: ``torch.set_num_threads(1)`` is fastest for one small image.

    Attributes:
        actor: the network itself, for saving.
    """

    def __init__(self, actor: Actor, *, trained: bool, device: str = 'cpu') -> None:
        """Take over an actor for inference and warm it up.

        Args:
            actor: the network; its mode, device and gradients are changed here.
            trained: whether the weights come from training; for the reader of a report.
            device: torch device that computes.
        """
        self.actor = actor.to(device).eval().requires_grad_(requires_grad=False)
        self._device = torch.device(device)
        super().__init__(actor.config, trained=trained)

    def _infer(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        pixels = None if image is None else self._batch_of_one(image)
        with torch.inference_mode():
            answer = self.actor(self._batch_of_one(state), pixels).squeeze(0)
        values: NDArray[np.float32] = answer.cpu().numpy()
        return values

    def _batch_of_one(self, values: object) -> torch.Tensor:
        """Copy an array to the device; torch warns about arrays that are read-only."""
        return torch.from_numpy(np.array(values)[np.newaxis]).to(self._device)


def untrained_policy(seed: int, config: ActorConfig = DRIVING_ACTOR) -> Policy:
    """Return a policy with fresh weights: the baseline that training has to beat."""
    return Policy(build_actor(config, torch.Generator().manual_seed(seed)), trained=False)
