"""Zeroth-order methods: everything but the optimizer's own settings is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from shoestring.methods.training import TrainingMethod
from shoestring.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


class ZerothMethod(TrainingMethod):
    """Fine-tunes with forward passes only, in the memory of inference; dropout is off."""

    needs_backward: ClassVar[bool] = False

    eps: PositiveFloat = 1e-3
    """Size of the perturbation."""
    directions: Literal["gaussian", "rademacher"] = "gaussian"
    """What the loss is probed along: normal numbers, or -1 and +1, which are cheaper to make."""
    rounding: Literal["auto", "nearest", "stochastic"] = "auto"
    """How updates reach half-precision weights: to the nearest loses small ones, so `auto` is stochastic there."""
    nonfinite: Literal["raise", "skip"] = "raise"
    """What a NaN or infinite loss does: end the run, or skip the step, which is counted."""
    batch_size: PositiveInt = 64
    """Examples a step; the whole training set where that is smaller."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after `warmup_steps`."""
    steps: PositiveInt = 10_000
    """Optimizer steps."""

    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build the optimizer of the same name; its directions come from the named stream (seed, name)."""
        from shoestring.seeds import derive
        from shoestring.zeroth.base import OPTIMIZERS

        kind = self.model_dump()["kind"]
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in TrainSettings.model_fields}
        del own["kind"]
        return OPTIMIZERS.get(kind)(self.groups(model), lr=self.lr, seed=derive(seed, kind), **own)
