"""Accuracy itself, which has no gradient."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel, predictions
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective


class Accuracy(Objective):
    """L = -(share of the batch whose highest-scoring candidate is a right one).

    Piecewise constant in the weights, so only zeroth-order methods can use it; larger batches make it finer. Prompts do
    not share rows, whose means would round otherwise where hits are in other rows: equal accuracies are equal numbers.

    Source: Malladi et al. 2023 (MeZO), section 3.3.
    """

    differentiable = False
    needs_vocabulary = False
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "multiple-choice"})

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return -1 where a right candidate scores highest, else 0 [N]."""
        right = batch.get("option_right")
        predicted = predictions(subject.task, subject.scores(batch, relative=True))
        if right is None:
            return -(predicted == batch["labels"]).float()
        return -right.gather(1, predicted[:, None])[:, 0].float()


OBJECTIVES.register("accuracy")(Accuracy())
