"""The language-model loss on prompt and answer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES
from shoestring.training.objectives.language_model import PerToken


class WholeText(PerToken):
    """Every token of the prompt and of the right answer counts, but for the first one of all.

    Source: the loss of decoder-only models in yushengsu-thu/PET_Scaling, with labels equal to the input.
    """

    needs_causal = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "multiple-choice", "generation"})

    def log_probs(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return log p of the whole texts behind their first tokens [N]."""
        return subject.text_log_probs(batch)

    def tokens(self, batch: Batch) -> Tensor:
        """Return the number of tokens of each whole text behind the first one [N]."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        return batch["attention_mask"].sum(-1) + batch["option_mask"][rows, batch["labels"]].sum(-1) - 1


OBJECTIVES.register("whole-text")(WholeText())
