# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The manifest of a policy: its inputs, its outputs, and how its network, the actor, is built.

No torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
import math
from typing import TYPE_CHECKING, Any

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    CONTROL_MAX_YAW_RATE_RADPS,
    TwistConvention,
)
from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import (
    ENCODINGS,
    PATH_POINTS,
    PATH_SCALE_M,
    STATE_SIZE,
    ObservationSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = 2
DRIVING = 'driving'
GYMNASIUM = 'gymnasium'
KINDS = (DRIVING, GYMNASIUM)
COLOUR = 'grey, ITU-R BT.601'
NORMALISATION = 'x / 255 - 0.5'
MAX_LAYERS = 8
MAX_UNITS = 4096
MAX_SIDE_PX = 1024
MAX_CHANNELS = 32
MAX_MULTIPLICATIONS = 2_000_000_000  # per image; the driving actor needs 5 million
LONGEST_SMOOTHING_S = 2.0
SMOOTHING = ('speed_smoothing_s', 'yaw_rate_smoothing_s')
Conv = tuple[int, int, int]  # output channels, kernel, stride


@dataclass(frozen=True, kw_only=True)
class ImageContract:
    """How the image stack is made; fields as in :class:`ObservationSpec`, and these.

    Attributes:
        encodings: camera encodings that may be fed.
        colour: how colours become grey.
        normalisation: what the network does to a pixel x in 0 ... 255.
        camera: what the camera showed in training; None where it is unknown.
    """

    encodings: tuple[str, ...]
    image_height_px: int
    image_width_px: int
    frame_stack: int
    crop_top: float
    colour: str = COLOUR
    normalisation: str = NORMALISATION
    camera: CameraView | None = None

    def observation_spec(self) -> ObservationSpec:
        return ObservationSpec(
            image_height_px=self.image_height_px,
            image_width_px=self.image_width_px,
            frame_stack=self.frame_stack,
            crop_top=self.crop_top,
        )


@dataclass(frozen=True, kw_only=True)
class StateField:
    """One number of the state vector: the network gets the quantity / ``scale``."""

    name: str
    unit: str
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """The inputs of a policy, and their rate [Hz]; None where it does not apply."""

    image: ImageContract | None
    state: tuple[StateField, ...]
    rate_hz: float | None

    def contract(self) -> Contract:
        """Return what the running loop is compared with."""
        if self.image is None:
            return Contract(rate_hz=self.rate_hz)
        return Contract(
            rate_hz=self.rate_hz, camera=self.image.camera, encodings=self.image.encodings
        )


@dataclass(frozen=True, kw_only=True)
class ActionField:
    """One action: the actor's own range maps linearly onto [``low``, ``high``] [``unit``]."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class OutputContract:
    """The meaning of a policy's actions.

    Attributes:
        actions: one by one.
        twist_convention: how the Twist is meant; None for a policy that does not drive.
        speed_smoothing_s: lag of the low-pass on a rising target speed [s], less on a falling
            one (:class:`~td3_agent.policy.network_driver.SmoothedDriver`); 0: none.
        yaw_rate_smoothing_s: lag of the low-pass on the yaw rate [s]; 0: none.
    """

    actions: tuple[ActionField, ...]
    twist_convention: str | None
    speed_smoothing_s: float = 0.0
    yaw_rate_smoothing_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Architecture of an actor.

    Attributes:
        image_shape: (channels, height, width) of the uint8 image stack, None without images.
        state_size: numbers in the state vector, >= 0; 0 only with images.
        action_low: lower limit of each action.
        action_high: upper limit of each action.
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
    """Return name and shape of every weight of an actor, without allocating them."""
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
    return (side - kernel) // stride + 1


def _conv_faults(image_shape: tuple[int, int, int], conv: tuple[Conv, ...]) -> list[str]:
    """Name convolutions that do not fit, or need too much memory or time."""
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


@dataclass(frozen=True, kw_only=True)
class CreatedBy:
    """Versions of the software that wrote the checkpoint."""

    td3_agent: str
    torch: str
    numpy: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of a checkpoint besides its weights.

    Attributes:
        schema: version of this format.
        kind: one of :data:`KINDS`.
        trained: whether the weights come from training.
        weights_sha256: of the bytes after the header of the file.
        training: notes of the trainer (task, seed, steps, settings), plain JSON.
    """

    schema: int
    kind: str
    trained: bool
    created_by: CreatedBy
    inputs: InputContract
    outputs: OutputContract
    actor: ActorConfig
    weights_sha256: str
    training: dict[str, Any]

    @property
    def observation_spec(self) -> ObservationSpec:
        """Settings of the observation builder that this policy needs.

        Raises:
            ValueError: the policy takes no image; a driving policy always does.
        """
        if self.inputs.image is None:
            raise ValueError(f'a policy of kind {self.kind!r} takes no image')
        # The state of a driving policy is longer than the vehicle's own if it holds the route.
        return replace(self.inputs.image.observation_spec(), path=_has_path(self.inputs.state))


def _has_path(state: tuple[StateField, ...]) -> bool:
    return len(state) > STATE_SIZE


def driving_inputs(
    spec: ObservationSpec | None = None, rate_hz: float = 20.0, camera: CameraView | None = None
) -> InputContract:
    spec = spec or ObservationSpec()
    settings = asdict(spec)
    has_path = settings.pop('path')
    image = ImageContract(encodings=tuple(ENCODINGS), camera=camera, **settings)
    state: tuple[StateField, ...] = (
        StateField(name='speed', unit='m/s', scale=CONTROL_MAX_SPEED_MPS),
        StateField(name='yaw_rate', unit='rad/s'),
        StateField(name='previous_action_0', unit='1'),
        StateField(name='previous_action_1', unit='1'),
    )
    if has_path:
        state += tuple(
            StateField(name=f'route_{axis}_{i}', unit='m', scale=PATH_SCALE_M)
            for i in range(PATH_POINTS)
            for axis in ('x', 'y')
        )
    return InputContract(image=image, state=state, rate_hz=rate_hz)


def driving_outputs() -> OutputContract:
    limit = CONTROL_MAX_YAW_RATE_RADPS
    actions = (
        ActionField(name='linear_x', unit='m/s', low=0.0, high=CONTROL_MAX_SPEED_MPS),
        ActionField(name='angular_z', unit='rad/s', low=-limit, high=limit),
    )
    return OutputContract(actions=actions, twist_convention=TwistConvention.VELOCITY.value)


def short(value: object) -> str:
    """Return a value for an error text."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


# ---- Checks -------------------------------------------------------------------------------------


def contract_faults(manifest: Manifest) -> list[str]:
    """Name contradictions within a manifest, or between it and this software."""
    faults = _expect('kind', manifest.kind, KINDS, lambda value, known: value in known)
    faults += _shape_faults(manifest)
    faults += _range_faults(manifest)
    if manifest.kind == DRIVING:
        faults += _driving_faults(manifest)
    return faults


def _expect(
    where: str,
    value: object,
    expected: Any,  # noqa: ANN401
    holds: Callable[[Any, Any], bool] = lambda value, expected: bool(value == expected),
) -> list[str]:
    if holds(value, expected):
        return []
    return [f'{where} is {short(value)}, expected {expected}']


def _shape_faults(manifest: Manifest) -> list[str]:
    image, actor = manifest.inputs.image, manifest.actor
    stack = (
        None if image is None else (image.frame_stack, image.image_height_px, image.image_width_px)
    )
    return [
        *_expect('actor.image_shape', actor.image_shape, stack),
        *_expect('actor.state_size', actor.state_size, len(manifest.inputs.state)),
        *_expect(
            'length of actor.action_low', len(actor.action_low), len(manifest.outputs.actions)
        ),
    ]


def _range_faults(manifest: Manifest) -> list[str]:
    rate_hz = manifest.inputs.rate_hz
    faults = []
    if rate_hz is not None and not 0.0 < rate_hz <= 1000.0:
        faults.append(f'inputs.rate_hz is {rate_hz}, expected > 0 and <= 1000 [Hz]')
    faults += [
        f'inputs.state[{i}].scale is {field.scale}, expected > 0'
        for i, field in enumerate(manifest.inputs.state)
        if not field.scale > 0.0
    ]
    faults += [
        f'outputs.actions[{i}].low is {field.low}, expected < high = {field.high}'
        for i, field in enumerate(manifest.outputs.actions)
        if not field.low < field.high
    ]
    longest_s = LONGEST_SMOOTHING_S if manifest.kind == DRIVING else 0.0
    faults += [
        f'outputs.{name} is {getattr(manifest.outputs, name)}, expected in '
        f'[0, {longest_s:g}] [s] for {manifest.kind}'
        for name in SMOOTHING
        if not 0.0 <= getattr(manifest.outputs, name) <= longest_s
    ]
    if manifest.inputs.image is not None:
        try:
            manifest.inputs.image.observation_spec()
        except ValueError as error:
            faults.append(f'inputs.image: {error}')
    return faults


def _driving_faults(manifest: Manifest) -> list[str]:
    """Name differences from what this software expects of a driving policy."""
    actor, outputs = manifest.actor, driving_outputs()
    expected = driving_inputs(ObservationSpec(path=_has_path(manifest.inputs.state)))
    faults = _expect('inputs.state', manifest.inputs.state, expected.state)
    faults += _expect('outputs.actions', manifest.outputs.actions, outputs.actions)
    faults += _expect(
        'outputs.twist_convention', manifest.outputs.twist_convention, outputs.twist_convention
    )
    ones = tuple(1.0 for _ in outputs.actions)
    faults += _expect('actor.action_high', actor.action_high, ones)
    faults += _expect('actor.action_low', actor.action_low, tuple(-one for one in ones))
    image = manifest.inputs.image
    if image is None:
        return [*faults, 'inputs.image is None, expected an image for driving']
    faults += _expect('inputs.image.colour', image.colour, COLOUR)
    faults += _expect('inputs.image.normalisation', image.normalisation, NORMALISATION)
    if not image.encodings or not set(image.encodings) <= set(ENCODINGS):
        known = ', '.join(ENCODINGS)
        faults.append(f'inputs.image.encodings is {short(image.encodings)}, expected of {known}')
    if manifest.inputs.rate_hz is None:
        faults.append('inputs.rate_hz is None, expected a rate [Hz] for driving')
    return faults
