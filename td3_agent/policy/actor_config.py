# SPDX-License-Identifier: Apache-2.0
"""Architecture of an actor: what a manifest says of it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
import math

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
            height, width = conv_size(height, kernel, stride), conv_size(width, kernel, stride)
        layer('encoder.projection', config.features, channels * height * width)
        layer('encoder.norm', config.features)
        inputs += config.features
    for i, units in enumerate(config.hidden):
        layer(f'trunk.{2 * i}', units, inputs)
        inputs = units
    layer('head', len(config.action_low), inputs)
    return shapes


def conv_size(side: int, kernel: int, stride: int) -> int:
    """Return the side of a convolution's output [px]."""
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
        height, width = conv_size(height, kernel, stride), conv_size(width, kernel, stride)
        work += height * width * outputs * inputs * kernel**2
        inputs = outputs
    if work > MAX_MULTIPLICATIONS:
        return [f'conv must need <= {MAX_MULTIPLICATIONS} multiplications, needs {work}']
    return []


# Driving: four grey frames; speed, yaw rate and the previous action.
DRIVING_ACTOR = ActorConfig(
    image_shape=(4, 84, 84), state_size=4, action_low=(-1.0, -1.0), action_high=(1.0, 1.0)
)
