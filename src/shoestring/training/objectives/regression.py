"""Regression: values between two poles, or a single output."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.errors import ModelError
from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective


class Regression(Objective):
    """With two poles: L = KL((1-p, p) || softmax(f(x))), p = (y - low) / (high - low). With one output: squared error.

    Source: Gao et al. 2021 (LM-BFF), section 4.2.
    Differs: princeton-nlp/LM-BFF src/models.py:186 passes the target probabilities where their logarithms are expected
        (`log_target=True`), and averages over the two poles as well; here it is the divergence of the paper, averaged
        over examples.
    """

    differentiable = True
    needs_vocabulary = False
    folds = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"regression"})

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return losses [N].

        Raises:
            ModelError: if the task has no range.
        """
        scores = subject.scores(batch, relative=True)
        values = batch["labels"].to(scores.dtype)
        if scores.shape[1] == 1:
            return functional.mse_loss(scores[:, 0], values, reduction="none")
        if subject.task.range is None:
            raise ModelError(
                f"task {subject.task.name} has no [range], so its values cannot be placed between two poles"
            )
        high = (values - subject.task.range.low) / (subject.task.range.high - subject.task.range.low)
        target = torch.stack([1 - high, high], dim=1)
        return functional.kl_div(scores.log_softmax(-1), target, reduction="none").sum(-1)


OBJECTIVES.register("regression")(Regression())
