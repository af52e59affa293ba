"""The language-model loss on the answer."""

from __future__ import annotations

from typing import ClassVar

import torch
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
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "multiple-choice", "generation"})

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch with N / (number of answer tokens in it) for each of its N examples."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        tokens = batch["option_scored"][rows, batch["labels"]].sum()
        return {**batch, _SHARE: (len(rows) / tokens).expand(len(rows)).contiguous()}

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the share [N] of each example in N times the mean negative log-probability of an answer token."""
        log_probs, tokens = subject.answer_log_probs({name: value for name, value in batch.items() if name != _SHARE})
        share = batch[_SHARE] if _SHARE in batch else len(tokens) / tokens.sum()
        return -log_probs * share


_SHARE = "share"


OBJECTIVES.register("language-model")(LanguageModel())
