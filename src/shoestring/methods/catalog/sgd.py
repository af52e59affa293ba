"""SGD fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat

from shoestring.methods.backward import BackwardMethod
from shoestring.methods.base import METHODS

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@METHODS.register("sgd")
class SGD(BackwardMethod):
    """Stochastic gradient descent with gradients from backpropagation.

    With the gradient g of the loss, scaled down to norm `max_grad_norm` where it is longer:

        h <- g + weight_decay * theta
        b <- momentum * b + h                          (b = h at the first step)
        theta <- theta - lr * b

    as torch has it: b sums gradients that are not multiplied by lr, so a schedule of lr acts on old ones too. Tensors
    of one axis do not decay.

    Source: Robbins & Monro 1951 (stochastic approximation); Polyak 1964 (momentum).
    """

    kind: Literal["sgd"] = "sgd"
    lr: NonNegativeFloat = 1e-3
    """Learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Heavy-ball momentum."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build torch's SGD."""
        import torch

        return torch.optim.SGD(self.groups(model), lr=self.lr, momentum=self.momentum)
