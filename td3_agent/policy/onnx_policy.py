# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy under ONNX Runtime: the same actions in a fraction of PyTorch's time. No torch.

The model is made of the weights whenever they are loaded, so it cannot belong to others. Before
it drives, its actions are compared with those of the same network in NumPy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from td3_agent.policy.network_driver import NetworkDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from td3_agent.policy.manifest import ActorConfig
    from td3_agent.policy.policy_file import Weights

    Floats = NDArray[np.floating[Any]]
    Inputs = tuple[NDArray[np.float32], NDArray[np.uint8] | None]

OPSET, IR_VERSION = 17, 8  # the first with LayerNormalization; ONNX Runtime 1.12 and later
NORM_EPSILON = 1e-5  # PyTorch's
# Largest difference of an action, as a fraction of half its range. Summation orders differ: about
# 1e-6 is usual.
TOLERANCE = 1e-4
RANDOM_AT_START = 4  # observations that are compared at every start, beside the edges
SEED = 0
EDGE_STATES = (0.0, 1.0, -1.0, 10.0, -10.0, 100.0, -100.0)
EDGE_LEVELS = (0, 255, 0, 128, 255, 1, 254)


class OnnxPolicy(NetworkDriver):
    """Runs a network under ONNX Runtime, on one thread."""

    def __init__(self, config: ActorConfig, weights: Weights, *, trained: bool) -> None:
        """Make the model, compare its actions with those of NumPy, and warm up.

        Args:
            config: architecture of the network.
            weights: checked, as :func:`~td3_agent.policy.policy_file.read_policy` returns them.
            trained: whether they come from training.

        Raises:
            ImportError: onnx or onnxruntime is not installed.
            ValueError: ONNX Runtime rejects the model, or an action differs.
        """
        self._session = _session(onnx_model(config, weights))
        super().__init__(config, trained=trained)

        def expected(state: NDArray[np.float32], image: NDArray[np.uint8] | None) -> Floats:
            return numpy_action(config, weights, state, image)

        self.compare(expected, sample_observations(config, RANDOM_AT_START))

    def compare(
        self, expected: Callable[..., Floats], observations: Iterable[Inputs]
    ) -> tuple[float, int]:
        """Compare the actions with those that ``expected`` returns for the same arguments.

        Returns:
            Largest difference of an action as a fraction of half its range; observations compared.

        Raises:
            ValueError: a difference is beyond :data:`TOLERANCE`; the text has the observation.
        """
        half_range = (self._high - self._low) / 2.0
        largest, number = 0.0, 0
        for number, observation in enumerate(observations, start=1):
            action, wanted = self.action(*observation), expected(*observation)
            difference = float(np.max(np.abs(action - wanted) / half_range))
            if not difference <= TOLERANCE:  # written so that NaN fails too
                raise ValueError(
                    f'action of ONNX Runtime for observation {number} is {action.tolist()}, '
                    f'expected {wanted.tolist()} within {TOLERANCE:g} of half the range, '
                    f'got {difference:.2g}'
                )
            largest = max(largest, difference)
        return largest, number

    def _infer(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        feeds: dict[str, NDArray[Any]] = {'state': state[np.newaxis]}
        if image is not None:
            feeds['image'] = image[np.newaxis]
        answer: NDArray[np.float32] = self._session.run(None, feeds)[0][0]
        return answer


def _session(model: bytes) -> Any:  # noqa: ANN401  an optional library's
    """Return a session on one thread.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: the model cannot be loaded.
    """
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415  optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # the library raises as it likes
        raise ValueError(f'ONNX Runtime rejects the model: {error}') from error


def onnx_model(config: ActorConfig, weights: Weights) -> bytes:
    """Return an actor as an ONNX model for one observation at a time.

    Inputs ``state`` (1, state_size) float32 and, for an actor with images, ``image`` (1, C, H, W)
    uint8; output ``action`` (1, actions) float32.

    Raises:
        ImportError: onnx is not installed.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  optional

    low, high = (np.array(limit, np.float32) for limit in (config.action_low, config.action_high))
    numbers = {'255': np.float32(255.0), '0.5': np.float32(0.5)}
    numbers |= {'scale': (high - low) / 2.0, 'bias': (high + low) / 2.0, **weights}
    nodes: list[Any] = []

    def apply(operator: str, *inputs: str, name: str = '', **attributes: Any) -> str:  # noqa: ANN401
        output = name or f'{operator}_{len(nodes)}'
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def layer(operator: str, value: str, name: str, **attributes: Any) -> str:  # noqa: ANN401
        return apply(operator, value, f'{name}.weight', f'{name}.bias', **attributes)

    tensor = helper.make_tensor_value_info
    value, inputs = 'state', [tensor('state', TensorProto.FLOAT, (1, config.state_size))]
    if config.image_shape is not None:
        inputs.append(tensor('image', TensorProto.UINT8, (1, *config.image_shape)))
        pixels = apply('Cast', 'image', to=TensorProto.FLOAT)
        maps = apply('Sub', apply('Div', pixels, '255'), '0.5')
        for i, (_, _, stride) in enumerate(config.conv):
            strides = [stride, stride]
            maps = apply('Relu', layer('Conv', maps, f'encoder.conv.{2 * i}', strides=strides))
        flat = apply('Flatten', maps)
        projected = layer('Gemm', flat, 'encoder.projection', transB=1)
        normed = layer('LayerNormalization', projected, 'encoder.norm', epsilon=NORM_EPSILON)
        value = apply('Concat', apply('Tanh', normed), 'state', axis=1)
    for i in range(len(config.hidden)):
        value = apply('Relu', layer('Gemm', value, f'trunk.{2 * i}', transB=1))
    squashed = apply('Tanh', layer('Gemm', value, 'head', transB=1))
    apply('Add', apply('Mul', squashed, 'scale'), 'bias', name='action')

    output = tensor('action', TensorProto.FLOAT, (1, low.size))
    constants = [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes, 'actor', inputs, [output], constants)
    opsets = [helper.make_opsetid('', OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    data: bytes = model.SerializeToString()
    return data


def numpy_action(
    config: ActorConfig,
    weights: Weights,
    state: NDArray[np.float32],
    image: NDArray[np.uint8] | None,
) -> Floats:
    """Return the action of the network, (actions,): the reference for a runtime.

    Args:
        config: its architecture.
        weights: its weights, by name.
        state: (state_size,).
        image: (C, H, W), for an actor that takes images.
    """

    def linear(name: str, value: Floats) -> Floats:
        result: Floats = weights[f'{name}.weight'] @ value + weights[f'{name}.bias']
        return result

    value: Floats = state.astype(np.float64)
    if image is not None:
        maps: Floats = image / 255.0 - 0.5
        for i, (_, kernel, stride) in enumerate(config.conv):
            weight, bias = (weights[f'encoder.conv.{2 * i}.{part}'] for part in ('weight', 'bias'))
            windows = sliding_window_view(maps, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
            summed = np.tensordot(weight, windows, axes=((1, 2, 3), (0, 3, 4)))
            maps = np.maximum(summed + bias[:, np.newaxis, np.newaxis], 0.0)
        projected = linear('encoder.projection', maps.ravel())
        normed = (projected - projected.mean()) / np.sqrt(projected.var() + NORM_EPSILON)
        features = weights['encoder.norm.weight'] * normed + weights['encoder.norm.bias']
        value = np.concatenate((np.tanh(features), state))
    for i in range(len(config.hidden)):
        value = np.maximum(linear(f'trunk.{2 * i}', value), 0.0)
    low, high = np.array(config.action_low), np.array(config.action_high)
    action: Floats = (low + high) / 2.0 + (high - low) / 2.0 * np.tanh(linear('head', value))
    return action


def sample_observations(config: ActorConfig, count: int) -> Iterator[Inputs]:
    """Yield observations of a network: the edges of what it may see, then ``count`` at random."""
    rng = np.random.default_rng(SEED)
    size, shape = config.state_size, config.image_shape or (0,)

    def pair(state: NDArray[Any], image: NDArray[Any]) -> Inputs:
        pixels = None if config.image_shape is None else image.astype(np.uint8)
        return state.astype(np.float32), pixels

    for value, level in zip(EDGE_STATES, EDGE_LEVELS, strict=True):
        yield pair(np.full(size, value), np.full(shape, level))
    ramp = np.arange(math.prod(shape)).reshape(shape) % 256
    yield pair(np.zeros(size), ramp)
    yield pair(np.zeros(size), 255 - np.flip(ramp))
    for _ in range(count):
        yield pair(rng.normal(0.0, 1.0, size), rng.integers(0, 256, shape))
