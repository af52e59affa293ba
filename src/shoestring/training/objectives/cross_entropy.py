"""Cross-entropy over the candidates."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective


class CrossEntropy(Objective):
    """L = -1/N sum_n log softmax(f(x_n))[y_n] over the C candidates, not over the vocabulary.

    Source: Gao et al. 2021 (LM-BFF), eq. 1; Malladi et al. 2023 (MeZO), appendix E (`train_as_classification`).
    """

    differentiable = True
    needs_vocabulary = False
    folds = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "multiple-choice"})

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return cross-entropies [N]."""
        return functional.cross_entropy(subject.scores(batch, relative=True), batch["labels"], reduction="none")


OBJECTIVES.register("cross-entropy")(CrossEntropy())
