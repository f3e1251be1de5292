# SPDX-License-Identifier: Apache-2.0
"""Linear layers with ReLU between them, with their way forth and back written out.

Actor and critics are a few small matrices, and an update of theirs is so short that autograd's
bookkeeping, fresh memory for every result and separate passes for the biases take as long as half
of the matrix products. Here the memory is kept, the activations are overwritten in place, and a
column of ones beside them makes the bias one more row of the weights, so that it and its gradient
come out of the same products. The modules stay the reference: tests compare with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from td3_agent.td3.flat import Matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from td3_agent.policy.networks import Actor
    from td3_agent.td3.critic import TwinCritic
    from td3_agent.td3.flat import FlatParameters


class _Units(NamedTuple):
    """Memory for a layer of units, and the ways to look at it that are needed again and again."""

    all: Tensor  # (networks, B, units + 1)
    each: Sequence[Tensor]  # (B, units + 1) of each network
    without_ones: Sequence[Tensor]  # (B, units)

    @classmethod
    def of(cls, memory: Tensor) -> Self:
        each = memory.unbind()
        return cls(memory, each, [units[:, :-1] for units in each])


class Layers:
    """Networks side by side, all given the same inputs.

    :meth:`backward` is about the last :meth:`forward`; both are without autograd.
    """

    def __init__(self, matrices: Sequence[Sequence[Matrix]]) -> None:
        """Use weights, and set gradients, where they lie.

        Args:
            matrices: of each layer, first to last, that of each network.
        """
        self._matrices = matrices
        self._inputs = torch.empty(0)  # (B, inputs + 1), the last column ones
        # Of each hidden layer.
        self._units: list[_Units] = []
        self._below: list[_Units] = []
        self._first: Sequence[Tensor] = ()  # gradient of the first layer's sums

    @classmethod
    def of_actor(cls, actor: Actor, flat: FlatParameters) -> Self:
        """Return the layers behind an actor's encoder."""
        linears = [layer for layer in actor.trunk if isinstance(layer, nn.Linear)]
        return cls([[flat.matrix(linear)] for linear in (*linears, actor.head)])

    @classmethod
    def of_critic(cls, critic: TwinCritic, flat: FlatParameters, twins: int = 2) -> Self:
        """Return the layers of both critics, or of the first alone."""
        pairs = [(weight.data, flat.gradient_of(weight)) for weight in critic.weights]
        return cls([[Matrix(v[i], g[i]) for i in range(twins)] for v, g in pairs])

    def forward(self, *parts: Tensor) -> Tensor:
        """Return what the last layer makes of the inputs.

        Args:
            parts: (B, ·) each; side by side they are the inputs.

        Returns:
            (networks, B, outputs), memory of its own.
        """
        self._reserve(parts[0])
        torch.cat(parts, dim=1, out=self._inputs[:, :-1])
        seen: Sequence[Tensor] = [self._inputs] * len(self._matrices[0])
        for matrices, units in zip(self._matrices[:-1], self._units, strict=True):
            for before, matrix, sums in zip(seen, matrices, units.without_ones, strict=True):
                torch.mm(before, matrix.values, out=sums)
            units.all.relu_()
            seen = units.each
        last = [torch.mm(s, m.values) for s, m in zip(seen, self._matrices[-1], strict=True)]
        return torch.stack(last)

    def backward(self, gradient: Tensor, *, learn: bool = True) -> None:
        """Go back from the gradient of the loss with respect to the outputs.

        Args:
            gradient: (networks, B, outputs).
            learn: set the gradients of the weights.
        """
        above: Sequence[Tensor] = gradient.unbind()
        for layer in range(len(self._matrices) - 1, 0, -1):
            matrices, units, below = (
                self._matrices[layer],
                self._units[layer - 1],
                self._below[layer - 1],
            )
            if learn:
                _set_gradients(units.each, above, matrices)
            for gradient_above, matrix, whole in zip(above, matrices, below.each, strict=True):
                torch.mm(gradient_above, matrix.values.t(), out=whole)
            torch.ops.aten.threshold_backward(below.all, units.all, 0, grad_input=below.all)
            above = below.without_ones
        if learn:
            _set_gradients([self._inputs] * len(above), above, self._matrices[0])
        self._first = above

    def inputs_gradient(self, part: slice) -> Tensor:
        """Return what :meth:`backward` makes of some of the inputs, (B, ·)."""
        rows = [matrix.values[:-1][part].t() for matrix in self._matrices[0]]
        gradient = torch.mm(self._first[0], rows[0])
        for above, weights in zip(self._first[1:], rows[1:], strict=True):
            gradient.addmm_(above, weights)
        return gradient

    def _reserve(self, like: Tensor) -> None:
        """Have memory for a batch of this size, on this device."""
        size = len(like)
        if len(self._inputs) == size:
            return
        widths = [layer[0].values.shape for layer in self._matrices]
        self._inputs = like.new_ones(size, widths[0][0])
        networks = len(self._matrices[0])

        def reserved() -> list[_Units]:
            return [_Units.of(like.new_ones(networks, size, out + 1)) for _, out in widths[:-1]]

        self._units, self._below = reserved(), reserved()


def _set_gradients(
    seen: Sequence[Tensor], above: Sequence[Tensor], matrices: Sequence[Matrix]
) -> None:
    for inputs, gradient, matrix in zip(seen, above, matrices, strict=True):
        torch.mm(inputs.t(), gradient, out=matrix.gradient)
