"""The language-model loss on the answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective

_SHARE = "share"


class PerToken(Objective):
    """L = -(sum over all tokens of the batch that count of log p(token | what stands before it)) / (number of them)."""

    differentiable = True
    needs_vocabulary = True

    @abstractmethod
    def log_probs(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the sums of log p over the tokens of each example that count [N]."""

    @abstractmethod
    def tokens(self, batch: Batch) -> Tensor:
        """Return the number of tokens of each example that count [N]."""

    def prepare(self, batch: Batch, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return the batch with N / (number of tokens that count in it) for each of its N examples."""
        tokens = self.tokens(batch)
        return {**batch, _SHARE: (len(tokens) / tokens.sum()).expand(len(tokens)).contiguous()}

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the share [N] of each example in N times the mean negative log-probability of a token that counts."""
        own = {name: value for name, value in batch.items() if name != _SHARE}
        log_probs = self.log_probs(subject, own)
        return -log_probs * (batch if _SHARE in batch else self.prepare(own, ()))[_SHARE]


class LanguageModel(PerToken):
    """The tokens of the right answer count; the prompt and the other candidates do not.

    Source: Malladi et al. 2023 (MeZO), appendix E (`only_train_option`).
    """

    folds = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "multiple-choice", "generation"})

    def narrow(self, prompts: Sequence[EncodedPrompt]) -> Sequence[EncodedPrompt]:
        """Return the prompts with their right answers as only candidates."""
        return [_answered(prompt.taught or prompt) for prompt in prompts]

    def log_probs(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return log p of the right answers [N]."""
        return subject.answer_log_probs(batch)[0]

    def tokens(self, batch: Batch) -> Tensor:
        """Return how many tokens of each right answer are scored [N]."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        return batch["option_scored"][rows, batch["labels"]].sum(-1)


def _answered(prompt: EncodedPrompt) -> EncodedPrompt:
    label = int(prompt.label)
    scored = prompt.scored_lengths[label : label + 1]
    return replace(prompt, options=prompt.options[label : label + 1], scored=scored, label=0, right=())


OBJECTIVES.register("language-model")(LanguageModel())
