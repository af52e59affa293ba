"""Settings shared by everything that trains step by step."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from shoestring.config import Settings

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


TRAJECTORY = "trajectory.bin"
"""The log of a zeroth-order training, in its folder."""


class TrainSettings(Settings):
    """How long, on what, and how the best weights are chosen.

    Differs: weight decay spares biases and norms; MeZO's RoBERTa code decays every parameter
        (princeton-nlp/MeZO medium_models/src/trainer.py:724).
    """

    needs_backward: ClassVar[bool]
    """Whether it needs gradients, and so an objective that has them."""

    lr: NonNegativeFloat
    """Learning rate."""
    steps: PositiveInt = 1000
    """Optimizer steps."""
    batch_size: PositiveInt = 8
    """Examples a step; the whole training set where that is smaller."""
    accumulate: PositiveInt = 1
    """Micro-batches of `batch_size` whose losses are averaged before a step."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate goes on after `warmup_steps`."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of matrices (and tensors of more axes); biases and norms, which have one axis, are never decayed."""
    objective: str | None = None
    """What is minimised; by default cross-entropy over the labels, the regression loss, or, where examples bring their
    own answers, the language-model loss of the right one."""
    eval_every: PositiveInt | None = None
    """Steps between evaluations on dev, which are also the checkpoints; by default a tenth of `steps`."""
    select: Literal["metric", "loss", "last"] = "metric"
    """The weights kept: best dev metric (the first of equals), lowest dev loss, or the last ones."""
    patience: PositiveInt | None = None
    """Stop after so many evaluations without a better one; by default train to the end. Not with `select = "last"`."""
    log_every: PositiveInt = 10
    """Steps between lines in metrics.jsonl."""

    @abstractmethod
    def optimizer(self, model: Module, seed: int) -> Optimizer:
        """Build the optimizer over the weights of `model` that require gradients."""

    @model_validator(mode="after")
    def _patience_has_an_aim(self) -> Self:
        if self.patience is not None and self.select == "last":
            raise ValueError(
                'patience waits for something better, and select="last" compares nothing; drop one of them'
            )
        return self

    @property
    def evaluations(self) -> int:
        """Steps between evaluations on dev."""
        return min(self.steps, self.eval_every or max(1, self.steps // 10))

    def groups(self, model: Module) -> list[dict[str, Any]]:
        """Return two groups of named weights: those that decay applies to, and the rest; empty groups are left out."""
        trained = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
        decayed = [(name, param) for name, param in trained if param.ndim > 1]
        exempt = [(name, param) for name, param in trained if param.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": exempt, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]
