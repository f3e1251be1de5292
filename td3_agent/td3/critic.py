# SPDX-License-Identifier: Apache-2.0
"""Twin critics, evaluated together."""

from __future__ import annotations

from itertools import pairwise
import math

import torch
from torch import Tensor, nn

TWINS = 2


class TwinCritic(nn.Module):
    """Q1 and Q2 of Fujimoto et al. 2018: separate weights, the same inputs.

    Attributes:
        weights: of each layer, (2, inputs, outputs).
        biases: of each layer, (2, 1, outputs).
    """

    def __init__(self, input_size: int, action_size: int, hidden: tuple[int, ...]) -> None:
        """Reserve the layers; :func:`initialise_twins` gives them their values.

        Args:
            input_size: numbers that describe the situation.
            action_size: numbers in an action.
            hidden: units of each hidden layer.
        """
        super().__init__()
        sizes = (input_size + action_size, *hidden, 1)
        layers = list(pairwise(sizes))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(TWINS, *pair)) for pair in layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(TWINS, 1, b)) for _, b in layers)

    def forward(self, inputs: Tensor, action: Tensor, twins: int = TWINS) -> Tensor:
        """Return both values, or the first alone.

        Args:
            inputs: (B, input_size).
            action: (B, actions) in [-1, 1].
            twins: how many of the two.

        Returns:
            (twins, B, 1).
        """
        values = torch.cat((inputs, action), dim=1).expand(twins, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            seen = values if i == 0 else torch.relu(values)
            values = torch.baddbmm(bias[:twins], seen, weight[:twins])
        return values


def initialise_twins(critic: TwinCritic, generator: torch.Generator) -> None:
    """Fill all layers uniformly within +-1/sqrt(fan in), PyTorch's default."""
    with torch.no_grad():
        for weight, bias in zip(critic.weights, critic.biases, strict=True):
            bound = 1.0 / math.sqrt(weight.shape[1])
            for parameter in (weight, bias):
                parameter.uniform_(-bound, bound, generator=generator)
