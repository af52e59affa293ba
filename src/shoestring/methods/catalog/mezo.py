"""MeZO fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.training import TrainingMethod

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@METHODS.register("mezo")
class MeZO(TrainingMethod):
    """Zeroth-order SGD: two forward passes a step and direction, no backward pass, the memory of inference.

    Dropout is off. Source: Malladi et al. 2023; the defaults are those of its tables 15 and 16.
    """

    needs_backward: ClassVar[bool] = False

    kind: Literal["mezo"] = "mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    eps: PositiveFloat = 1e-3
    """Size of the perturbation."""
    samples: PositiveInt = 1
    """Directions a step, all on the same batch; their estimates are averaged."""
    batch_size: PositiveInt = 64
    """Examples a step; the whole training set where that is smaller."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after `warmup_steps`."""
    steps: PositiveInt = 10_000
    """Optimizer steps."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build the optimizer; its directions come from the named stream (seed, "mezo")."""
        from shoestring.seeds import derive
        from shoestring.zeroth.optimizers.mezo import MeZO as Optimizer

        return Optimizer(self.groups(model), lr=self.lr, eps=self.eps, samples=self.samples, seed=derive(seed, "mezo"))
