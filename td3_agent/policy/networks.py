# SPDX-License-Identifier: Apache-2.0
"""Networks of the policy: image encoder and actor.

The actor follows TD3 (Fujimoto et al. 2018, arXiv:1802.09477, appendix C): two hidden layers of
256 and a tanh. Deviations, each against a saturated tanh, whose gradient is zero:

- the image features pass a projection, LayerNorm and tanh (as in DrQ, Kostrikov et al. 2020,
  arXiv:2004.13649, appendix B), so that the head sees numbers within [-1, 1];
- the last layer starts small (as in DDPG, Lillicrap et al. 2015, arXiv:1509.02971, section 7).
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

LAST_LAYER_BOUND = 3e-3  # Lillicrap et al. 2015, section 7
MAX_LAYERS = 8
MAX_UNITS = 4096
MAX_SIDE_PX = 1024
MAX_CHANNELS = 32
MAX_MULTIPLICATIONS = 2_000_000_000  # per image; the driving actor needs 5 million
Conv = tuple[int, int, int]  # output channels, kernel, stride


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Architecture of an actor; with it, and the weights, the actor is complete.

    Attributes:
        image_shape: (channels, height, width) of the uint8 image stack, None without images.
        state_size: numbers in the state vector, >= 0; 0 only with images.
        action_low: lower limit of each action.
        action_high: upper limit of each action, > ``action_low``.
        conv: (output channels, kernel, stride) of each convolution; unused without images.
        features: size of the image feature vector; unused without images.
        hidden: units of each hidden layer.

    Raises:
        ValueError: naming every field that describes no network.
    """

    image_shape: tuple[int, int, int] | None
    state_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    conv: tuple[Conv, ...] = ((32, 8, 4), (32, 4, 2), (32, 3, 1))
    features: int = 64
    hidden: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        """Refuse what describes no network, or one beyond all reason."""
        faults = self._action_faults() + self._size_faults()
        if not faults and self.image_shape is not None:
            faults = _conv_faults(self.image_shape, self.conv)
        if faults:
            raise ValueError('; '.join(faults))

    def _action_faults(self) -> list[str]:
        low, high = self.action_low, self.action_high
        if not 1 <= len(low) == len(high) <= MAX_UNITS:
            return [f'action_low and action_high must have one length >= 1, got {low} and {high}']
        return [
            f'action_low[{i}] must be < action_high[{i}], both finite, got {a} and {b}'
            for i, (a, b) in enumerate(zip(low, high, strict=True))
            if not -math.inf < a < b < math.inf  # written so that NaN fails too
        ]

    def _size_faults(self) -> list[str]:
        faults = []
        least = 1 if self.image_shape is None else 0
        if not least <= self.state_size <= MAX_UNITS:
            faults.append(f'state_size must be in [{least}, {MAX_UNITS}], got {self.state_size}')
        if not 1 <= self.features <= MAX_UNITS:
            faults.append(f'features must be in [1, {MAX_UNITS}], got {self.features}')
        if not 1 <= len(self.hidden) <= MAX_LAYERS:
            faults.append(f'hidden must have 1 to {MAX_LAYERS} layers, got {len(self.hidden)}')
        elif not all(1 <= units <= MAX_UNITS for units in self.hidden):
            faults.append(f'hidden must have 1 to {MAX_UNITS} units each, got {self.hidden}')
        return faults


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
            height, width = _conv_size(height, kernel, stride), _conv_size(width, kernel, stride)
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
        """Return what the first hidden layer sees, (B, features + state_size)."""
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


def tensor_shapes(config: ActorConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight of an actor, without taking memory for them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes[f'{name}.weight'] = weight
        shapes[f'{name}.bias'] = weight[:1]

    inputs = config.state_size
    if config.image_shape is not None:
        channels, height, width = config.image_shape
        for i, (outputs, kernel, stride) in enumerate(config.conv):
            layer(f'encoder.conv.{2 * i}', outputs, channels, kernel, kernel)
            channels = outputs
            height, width = _conv_size(height, kernel, stride), _conv_size(width, kernel, stride)
        layer('encoder.projection', config.features, channels * height * width)
        layer('encoder.norm', config.features)
        inputs += config.features
    for i, units in enumerate(config.hidden):
        layer(f'trunk.{2 * i}', units, inputs)
        inputs = units
    layer('head', len(config.action_low), inputs)
    return shapes


def _conv_size(side: int, kernel: int, stride: int) -> int:
    return (side - kernel) // stride + 1


def _conv_faults(image_shape: tuple[int, int, int], conv: tuple[Conv, ...]) -> list[str]:
    """Name what is wrong with the convolutions, or what would take all memory or time."""
    inputs, height, width = image_shape
    if not (1 <= inputs <= MAX_CHANNELS and all(1 <= s <= MAX_SIDE_PX for s in (height, width))):
        limits = f'({MAX_CHANNELS}, {MAX_SIDE_PX}, {MAX_SIDE_PX})'
        return [f'image_shape must be within (1, 1, 1) and {limits}, got {image_shape}']
    if not 1 <= len(conv) <= MAX_LAYERS:
        return [f'conv must have 1 to {MAX_LAYERS} layers with images, got {len(conv)}']
    work = 0
    for i, (outputs, kernel, stride) in enumerate(conv):
        fits = 1 <= kernel <= min(height, width) and 1 <= stride <= MAX_SIDE_PX
        if not (fits and 1 <= outputs <= MAX_UNITS):
            given = (outputs, kernel, stride)
            return [f'conv[{i}] = {given} does not fit its input of {height} x {width}']
        height, width = _conv_size(height, kernel, stride), _conv_size(width, kernel, stride)
        work += height * width * outputs * inputs * kernel**2
        inputs = outputs
    if work > MAX_MULTIPLICATIONS:
        return [f'conv must need <= {MAX_MULTIPLICATIONS} multiplications, needs {work}']
    return []


# Driving: four grey frames; speed, yaw rate and the previous action.
DRIVING_ACTOR = ActorConfig(
    image_shape=(4, 84, 84), state_size=4, action_low=(-1.0, -1.0), action_high=(1.0, 1.0)
)
