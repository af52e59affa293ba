"""The language-model loss on the answer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective


class LanguageModel(Objective):
    """L = -(sum over all answer tokens of the batch of log p(token | prompt, answer so far)) / (number of them).

    Normalised over the vocabulary; the other candidates are not looked at.

    Source: Malladi et al. 2023 (MeZO), appendix E (`only_train_option`).
    """

    differentiable = True
    needs_vocabulary = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification"})

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the share [N] of each example in N times the mean negative log-probability of an answer token."""
        log_probs, tokens = subject.answer_log_probs(batch)
        return -log_probs * (len(tokens) / tokens.sum())


OBJECTIVES.register("language-model")(LanguageModel())
