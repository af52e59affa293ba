"""SGD fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.training import TrainingMethod

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@METHODS.register("sgd")
class SGD(TrainingMethod):
    """Stochastic gradient descent with gradients from backpropagation.

    With the gradient g of the loss, scaled down to norm `max_grad_norm` where it is longer:

        h <- g + weight_decay * theta
        b <- momentum * b + h                          (b = h at the first step)
        theta <- theta - lr * b

    as torch has it: b sums gradients that are not multiplied by lr, so a schedule of lr acts on old ones too. Tensors
    of one axis do not decay.

    Source: Robbins & Monro 1951 (stochastic approximation); Polyak 1964 (momentum).
    """

    needs_backward: ClassVar[bool] = True

    kind: Literal["sgd"] = "sgd"
    lr: NonNegativeFloat = 1e-3
    """Learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Heavy-ball momentum."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients of larger norm are scaled down to it; 0 switches that off."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build torch's SGD."""
        import torch

        return torch.optim.SGD(self.groups(model), lr=self.lr, momentum=self.momentum)
