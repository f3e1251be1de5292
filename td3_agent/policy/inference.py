# SPDX-License-Identifier: Apache-2.0
"""An actor's forward pass as a plain list of calls, for one observation at a time.

The modules of :mod:`td3_agent.policy.networks` stay the reference, and tests compare bit for bit:
what is left out is only their own bookkeeping, which takes a quarter of so short a computation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.policy.networks import Actor, Encoder

Affine = tuple[Tensor, Tensor]  # bias, and weight as it stands on the right of a product


def forward_of(actor: Actor) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return :meth:`Actor.forward` in evaluation, to be called in inference mode.

    The weights are those of the actor, not copies: what changes them in place changes the answer.
    """
    hidden = [_affine(layer) for layer in actor.trunk if isinstance(layer, nn.Linear)]
    head_bias, head_weight = _affine(actor.head)
    scale, bias = actor.scale, actor.bias
    features_of = None if actor.encoder is None else _features_of(actor.encoder)

    def forward(state: Tensor, image: Tensor | None) -> Tensor:
        units = state
        if features_of is not None and image is not None:
            units = torch.cat((features_of(image), state), dim=1)
        for layer_bias, weight in hidden:
            units = torch.addmm(layer_bias, units, weight).relu_()
        return bias + scale * torch.addmm(head_bias, units, head_weight).tanh_()

    return forward


def _features_of(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    """Return the encoder's part: (1, C, H, W) uint8 to (1, features)."""
    convolutions = [
        (layer.weight, layer.bias, layer.stride)
        for layer in encoder.conv
        if isinstance(layer, nn.Conv2d)
    ]
    bias, weight = _affine(encoder.projection)
    norm = encoder.norm

    def features(image: Tensor) -> Tensor:
        maps = image.float().div_(255.0).sub_(0.5)
        for kernel, shift, stride in convolutions:
            maps = torch.conv2d(maps, kernel, shift, stride).relu_()
        projected = torch.addmm(bias, maps.flatten(1), weight)
        shape = norm.normalized_shape
        return torch.layer_norm(projected, shape, norm.weight, norm.bias, norm.eps).tanh_()

    return features


def _affine(layer: nn.Linear) -> Affine:
    return layer.bias, layer.weight.t()
