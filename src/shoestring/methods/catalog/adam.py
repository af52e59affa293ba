"""Adam fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from shoestring.methods.base import METHODS
from shoestring.methods.training import TrainingMethod

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

Beta = Annotated[float, Field(ge=0, lt=1)]


@METHODS.register("adam")
class Adam(TrainingMethod):
    """AdamW with gradients from backpropagation, the papers' "FT".

    Source: Loshchilov & Hutter 2019 (AdamW); settings of Gao et al. 2021 (LM-BFF), appendix A.
    """

    needs_backward: ClassVar[bool] = True

    kind: Literal["adam"] = "adam"
    lr: NonNegativeFloat = 1e-5
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the running first and second moments."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients of larger norm are scaled down to it; 0 switches that off."""

    def optimizer(self, params: Iterable[Parameter], seed: int) -> Optimizer:
        """Build torch's AdamW."""
        from torch.optim import AdamW

        return AdamW(self.groups(params), lr=self.lr, betas=self.betas, eps=self.epsilon)
