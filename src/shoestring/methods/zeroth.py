"""Zeroth-order methods: everything but the optimizer's own settings is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from shoestring.methods.training import TrainingMethod

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

Share = Annotated[float, Field(ge=0, lt=1)]
Portion = Annotated[float, Field(gt=0, le=1)]
# The schedules of HiZOO's code that can be used there; `shoestring.zeroth.smoothing` has their values.
ScheduleName = Literal[
    "constant0",
    "constant1e-2",
    "constant1e-4",
    "constant1e-6",
    "constant1e-8",
    "constant1e-10",
    "constant1e-12",
    "constant_decay1",
]


class ZerothMethod(TrainingMethod):
    """Fine-tunes with forward passes only, in the memory of inference; dropout is off."""

    needs_backward: ClassVar[bool] = False

    engine: Literal["paired", "virtual", "fused", "replay"] = "paired"
    """How the loss is evaluated around the weights: without moving them (`paired`; `virtual` keeps updates of low rank
    beside them for a while), or in place, as in the papers."""
    max_rows: PositiveInt | None = None
    """Rows of one forward pass, at most: `paired` and `virtual` repeat batches for several points, and cut them."""
    rounding: Literal["auto", "nearest", "stochastic", "residual"] = "auto"
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
        return OPTIMIZERS.get(kind)(self.groups(model), lr=self.lr, seed=derive(seed, kind), **self.own(model, seed))

    def own(self, model: Module, seed: int) -> dict[str, Any]:
        """Return the optimizer's settings: every key that is not one of training in general."""
        names = [name for name in type(self).model_fields if name not in TrainingMethod.model_fields and name != "kind"]
        settings = {name: getattr(self, name) for name in names}
        rows = settings.pop("max_rows")
        return settings if rows is None else {**settings, "engine": {"kind": self.engine, "max_rows": rows}}

    @model_validator(mode="after")
    def _rows_are_of_engines_that_repeat_batches(self) -> Self:
        if self.max_rows is not None and self.engine not in ("paired", "virtual"):
            raise ValueError(
                f'max_rows is of engine="paired" and "virtual"; engine={self.engine!r} evaluates the batch as it is'
            )
        return self


class Perturbing(ZerothMethod):
    """Estimates slopes from finite differences of the loss."""

    eps: PositiveFloat = 1e-3
    """Size of the perturbation."""


class Probing(Perturbing):
    """Probes the loss along directions of independent numbers."""

    directions: Literal["gaussian", "rademacher"] = "gaussian"
    """What the loss is probed along: normal numbers, or -1 and +1, which are cheaper to make."""


class Averaging(Probing):
    """Probes along several directions a step, all on the same batch."""

    samples: PositiveInt = 1
    """Directions a step; their estimates are averaged."""
