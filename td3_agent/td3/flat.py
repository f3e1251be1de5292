# SPDX-License-Identifier: Apache-2.0
"""All parameters of a network in one vector, and their gradients in another.

Adam and the moving average of the targets are element by element, so on one long vector they
take one pass instead of one call per layer: this alone is a tenth of a whole update.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MATRIX_DIMENSIONS = 2


class Matrix(NamedTuple):
    """A linear layer with its bias as the last row of its weights, views of both vectors.

    Attributes:
        values: (inputs + 1, outputs).
        gradient: likewise.
    """

    values: Tensor
    gradient: Tensor


class FlatParameters:
    """Moves parameters into one vector; the modules go on using them as views of it.

    Attributes:
        values: (N,) float32, the vector.
        gradient: (N,), of the loss with respect to it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take over parameters of one device, in the order given.

        The bias that follows a linear layer's weights comes to lie beside them.
        """
        blocks = _blocks(list(parameters))
        joined = [torch.cat([p.detach().reshape(len(p), -1) for p in b], dim=1) for b in blocks]
        self.values = torch.cat([block.reshape(-1) for block in joined])
        self.gradient = torch.zeros_like(self.values)
        self._gradients: dict[int, Tensor] = {}
        self._matrices: dict[int, Matrix] = {}
        start = 0
        for block, wide in zip(blocks, joined, strict=True):
            part = slice(start, start + wide.numel())
            values = self.values[part].view(wide.shape)
            gradient = self.gradient[part].view(wide.shape)
            self._matrices[id(block[0])] = Matrix(values.t(), gradient.t())
            column = 0
            for parameter in block:
                columns = slice(column, column + parameter[0].numel())
                parameter.data = _shaped(values[:, columns], parameter)
                self._gradients[id(parameter)] = _shaped(gradient[:, columns], parameter)
                column = columns.stop
            start = part.stop

    def holds(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter is one of these."""
        return id(parameter) in self._gradients

    def gradient_of(self, parameter: nn.Parameter) -> Tensor:
        """Return the part of the gradient that belongs to a parameter, shaped like it."""
        return self._gradients[id(parameter)]

    def matrix(self, layer: nn.Linear) -> Matrix:
        """Return a layer's weights and bias as one matrix."""
        return self._matrices[id(layer.weight)]

    def differentiate(
        self, outputs: Tensor, parameters: Sequence[nn.Parameter], by: Tensor
    ) -> None:
        """Set the gradient of some parameters.

        Args:
            outputs: what depends on them.
            parameters: these.
            by: gradient of the loss with respect to ``outputs``.
        """
        found = torch.autograd.grad(outputs, parameters, by)
        for parameter, gradient in zip(parameters, found, strict=True):
            self.gradient_of(parameter).copy_(gradient)

    def approach(self, other: FlatParameters, share: float) -> None:
        """Move towards other parameters: self <- share * other + (1 - share) * self."""
        self.values.lerp_(other.values, share)


class Adam:
    """Kingma and Ba 2015, arXiv:1412.6980, with PyTorch's defaults: a step is one pass.

    The kernel is that of ``torch.optim.Adam(fused=True)``; what that does around it takes as long
    again for a vector as short as this.

    Attributes:
        state: mean and mean square of the gradient, and the number of steps.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, flat: FlatParameters) -> None:
        """Train these parameters."""
        self._flat = flat
        self.state = {
            'exp_avg': torch.zeros_like(flat.values),
            'exp_avg_sq': torch.zeros_like(flat.values),
            'step': torch.zeros((), device=flat.values.device),
        }

    def step(self, rate: float) -> None:
        """Go down the gradient with a learning rate."""
        state = self.state
        state['step'] += 1.0
        torch._fused_adam_(
            [self._flat.values],
            [self._flat.gradient],
            [state['exp_avg']],
            [state['exp_avg_sq']],
            [],
            [state['step']],
            lr=rate,
            beta1=self.BETA1,
            beta2=self.BETA2,
            weight_decay=0.0,
            eps=self.EPSILON,
            amsgrad=False,
            maximize=False,
        )


def _blocks(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the parameters, a linear layer's weights and bias together."""
    blocks: list[list[nn.Parameter]] = []
    for parameter in parameters:
        last = blocks[-1] if blocks else []
        if len(last) == 1 and last[0].dim() == MATRIX_DIMENSIONS and parameter.dim() == 1:
            last.append(parameter)
        else:
            blocks.append([parameter])
    return blocks


def _shaped(columns: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return columns of a block as its parameter has them."""
    if parameter.dim() == 1:
        return columns[:, 0]
    return columns if parameter.dim() == MATRIX_DIMENSIONS else columns.view(parameter.shape)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers below 1.2e-38 for zero, in this thread and until it ends.

    The processor computes with them in microcode, and some never go away by themselves: 0.9 of
    the smallest one is rounded to itself.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # what a program begins with
