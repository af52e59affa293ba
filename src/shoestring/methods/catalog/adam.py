"""Adam fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from shoestring.methods.backward import BackwardMethod
from shoestring.methods.base import METHODS

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

Beta = Annotated[float, Field(ge=0, lt=1)]


@METHODS.register("adam")
class Adam(BackwardMethod):
    """AdamW with gradients from backpropagation, the papers' "FT".

    Step t = 1, 2, ... with the gradient g of the loss, scaled down to norm `max_grad_norm` where it is longer:

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        theta <- (1 - lr * weight_decay) theta  -  lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    elementwise, m = v = 0 at first. The decay is decoupled: it is not part of g. Tensors of one axis do not decay.

    Source: Kingma & Ba 2015, algorithm 1 (moments, bias correction); Loshchilov & Hutter 2019, algorithm 2 (decay);
        settings of Gao et al. 2021 (LM-BFF), appendix A.
    """

    kind: Literal["adam"] = "adam"
    lr: NonNegativeFloat = 1e-5
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the running first and second moments."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build torch's AdamW."""
        from torch.optim import AdamW

        return AdamW(self.groups(model), lr=self.lr, betas=self.betas, eps=self.epsilon)
