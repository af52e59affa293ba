"""A model that has been given a task: it encodes examples, scores candidates and predicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from shoestring.data.example import Example
from shoestring.models.batch import Batch, batches, collate
from shoestring.models.combining import combined, inputs_of
from shoestring.models.scoring import Scorer
from shoestring.progress import Bar
from shoestring.prompts.encoding import EncodedPrompt, Encoder
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel


@dataclass
class Passes:
    """Counts of passes through the model: batches, and examples in them."""

    forward: int = 0
    backward: int = 0
    forward_examples: int = 0
    backward_examples: int = 0


@dataclass(frozen=True)
class PromptedModel:
    """Model, prompt and scorer of one task; `passes` counts every forward pass made through it."""

    model: PreTrainedModel
    task: Task
    encoder: Encoder
    scorer: Scorer
    pad_id: int
    passes: Passes = field(default_factory=Passes)
    settings: PromptSettings = field(default_factory=PromptSettings)

    def encode(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the encoded prompts of `examples`, in order."""
        return [self.encoder.encode(example) for example in examples]

    def collate(self, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return one padded batch, on the CPU."""
        return collate(prompts, self.pad_id)

    def scores(self, batch: Batch) -> Tensor:
        """Return scores [N, C] of a batch on the model's device, with gradients where they are on.

        Sums of log-probabilities become means over a candidate's tokens, unless the settings ask for sums. A candidate
        that is not there scores -inf.
        """
        self._count(batch)
        sums = self.scorer.scores(self.model, batch)
        if "option_scored" not in batch:
            return sums
        lengths = batch["option_scored"].sum(-1)
        scores = sums if self.settings.sums else sums / lengths.clamp(min=1)
        return scores.masked_fill(lengths == 0, -torch.inf)

    def answer_log_probs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log p of the right answers [N] and their numbers of tokens [N]."""
        self._count(batch)
        return self.scorer.answer_log_probs(self.model, batch)

    def predict(self, prompts: Sequence[EncodedPrompt], batch_size: int, bar: Bar | None = None) -> Tensor:
        """Return scores [N, C] of all prompts, in their order, on the CPU; eval mode, no gradients.

        Scores do not depend on `batch_size` beyond rounding.
        """
        inputs = [item for prompt in prompts for item in inputs_of(prompt)]
        rows: list[Tensor] = [torch.empty(0)] * len(inputs)
        with torch.no_grad(), evaluating(self.model):
            for indices in batches(inputs, batch_size):
                batch = self.collate([inputs[index] for index in indices])
                scores = self.scores({name: value.to(self.model.device) for name, value in batch.items()}).cpu()
                for index, row in zip(indices, scores, strict=True):
                    rows[index] = row
                if bar is not None:
                    bar.advance(len(indices))
        return self._gathered(prompts, rows)

    def _gathered(self, prompts: Sequence[EncodedPrompt], rows: Sequence[Tensor]) -> Tensor:
        """Return the scores [N, C] of prompts, given those of all their inputs in order, each [C] or longer."""
        start, found = 0, []
        for prompt in prompts:
            end = start + len(inputs_of(prompt))
            own = [row[: len(prompt.options) or None] for row in rows[start:end]]
            found.append(combined(prompt, own, self.settings.calibration))
            start = end
        return pad_sequence(found, batch_first=True, padding_value=-torch.inf)

    def _count(self, batch: Batch) -> None:
        self.passes.forward += 1
        self.passes.forward_examples += len(batch["input_ids"])


def predictions(task: Task, scores: Tensor) -> Tensor:
    """Return predicted label ids [N], or for regression the predicted values [N].

    Classification: the first label of highest score. Regression: with two poles, low + (high - low) p(high pole) (Gao
    et al. 2021, section 4.2); with one output, the output itself.
    """
    if task.range is None:
        return scores.argmax(-1)
    if scores.shape[1] == 1:
        return scores[:, 0]
    return task.range.low + (task.range.high - task.range.low) * scores.softmax(-1)[:, 1]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in eval mode and give every module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
