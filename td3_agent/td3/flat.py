# SPDX-License-Identifier: Apache-2.0
"""All parameters of a network in one vector.

Adam and the moving average of the targets are element by element, so on one long vector they
take one pass instead of one call per layer: this alone is a tenth of a whole update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class FlatParameters:
    """Moves parameters into one vector; the modules go on using them as views of it.

    Attributes:
        values: (N,) float32, the vector; a leaf with a gradient of its own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take over parameters of one device, in the order given."""
        self._parameters = list(parameters)
        with torch.no_grad():
            self.values = torch.cat([p.reshape(-1) for p in self._parameters])
            start = 0
            for parameter in self._parameters:
                end = start + parameter.numel()
                parameter.data = self.values[start:end].view(parameter.shape)
                start = end
        self.values.grad = torch.zeros_like(self.values)

    @property
    def gradient(self) -> Tensor:
        """Gradient of the last :meth:`differentiate`, (N,)."""
        gradient = self.values.grad
        assert gradient is not None  # noqa: S101  set once and for all above
        return gradient

    def differentiate(self, loss: Tensor) -> None:
        """Set the gradient to that of ``loss`` with respect to these parameters alone."""
        gradients = torch.autograd.grad(loss, self._parameters)
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self.gradient)

    def approach(self, other: FlatParameters, share: float) -> None:
        """Move towards other parameters: self <- share * other + (1 - share) * self."""
        self.values.lerp_(other.values, share)

    def gradient_of(self, module: nn.Module) -> Tensor:
        """Return the part of the gradient that belongs to a module, (its parameters,)."""
        own = {id(parameter) for parameter in module.parameters()}
        parts, start = [], 0
        for parameter in self._parameters:
            end = start + parameter.numel()
            if id(parameter) in own:
                parts.append(self.gradient[start:end])
            start = end
        return torch.cat(parts)
