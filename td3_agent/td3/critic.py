# SPDX-License-Identifier: Apache-2.0
"""Twin critics: two action values at the price of one, every layer a batched product."""

from __future__ import annotations

from itertools import pairwise
import math

import torch
from torch import Tensor, nn

TWINS = 2


class TwinLinear(nn.Module):
    """Two linear layers side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Reserve the weights; :func:`initialise_twins` gives them their values."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(TWINS, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(TWINS, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (2, B, outputs) for (2, B, inputs)."""
        return torch.baddbmm(self.bias, inputs, self.weight)

    def first(self, inputs: Tensor) -> Tensor:
        """Return what the first of the two makes of it, (B, outputs) for (B, inputs)."""
        return torch.addmm(self.bias[0], inputs, self.weight[0])


class TwinCritic(nn.Module):
    """Q1 and Q2 of Fujimoto et al. 2018: separate weights, evaluated together."""

    def __init__(self, input_size: int, action_size: int, hidden: tuple[int, ...]) -> None:
        """Build the layers.

        Args:
            input_size: numbers that describe the situation.
            action_size: numbers in an action.
            hidden: units of each hidden layer.
        """
        super().__init__()
        sizes = (input_size + action_size, *hidden, 1)
        self.layers = nn.ModuleList(
            TwinLinear(inputs, outputs) for inputs, outputs in pairwise(sizes)
        )

    def forward(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return both values.

        Args:
            inputs: (B, input_size).
            action: (B, actions) in [-1, 1].

        Returns:
            (2, B, 1).
        """
        both = torch.cat((inputs, action), dim=1)
        values = both.expand(TWINS, *both.shape)
        for i, layer in enumerate(self.layers):
            values = layer(values if i == 0 else values.relu_())
        return values

    def first(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return Q1 alone, (B, 1); arguments as in :meth:`forward`."""
        values = torch.cat((inputs, action), dim=1)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, TwinLinear)  # noqa: S101  for the type checker
            values = layer.first(values if i == 0 else values.relu_())
        return values


def initialise_twins(critic: TwinCritic, generator: torch.Generator) -> None:
    """Fill all layers uniformly within +-1/sqrt(fan in), PyTorch's default."""
    with torch.no_grad():
        for layer in critic.layers:
            assert isinstance(layer, TwinLinear)  # noqa: S101  for the type checker
            bound = 1.0 / math.sqrt(layer.weight.shape[1])
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
