"""SignGD fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat

from shoestring.methods.backward import BackwardMethod
from shoestring.methods.base import METHODS

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@METHODS.register("signgd")
class SignGD(BackwardMethod):
    """Steps of one size in every weight, in the direction of the sign of its gradient: Adam in early training.

    With the gradient g of the loss:

        m <- momentum * m + (1 - momentum) * g
        theta <- (1 - lr * weight_decay) theta  -  lr * sign(m)

    elementwise, m = 0 at first, sign(0) = 0; without momentum m = g. Tensors of one axis do not decay. The length of g
    does not matter without momentum, nor does `max_grad_norm` then.

    Source: Bernstein et al. 2018 (signSGD), algorithms 1 and 2 (Signum); Malladi et al. 2023 (arXiv 2210.05643),
        section 4.2 (Adam begins as SignGD). The method that `method.formula = "signgd"` of kernels stands for.
    """

    kind: Literal["signgd"] = "signgd"
    lr: NonNegativeFloat = 1e-6
    """Learning rate: how far every weight moves in a step."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much of the running mean of gradients is kept in a step."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build the optimizer."""
        from shoestring.training.signgd import SignDescent

        return SignDescent(self.groups(model), lr=self.lr, momentum=self.momentum)
