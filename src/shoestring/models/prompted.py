"""A model that has been given a task: it encodes examples, scores candidates and predicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shoestring.data.example import Example
from shoestring.errors import ModelError
from shoestring.models.batch import Batch, collate
from shoestring.models.budget import Budget
from shoestring.models.folding import (
    Cost,
    examples_in,
    fold,
    foldable,
    folded,
    is_long,
    longest_row,
    other_of,
    pads_inside,
    trees_of,
    unfolded,
    width_of,
)
from shoestring.models.generation import Generator, OnText
from shoestring.models.padding import beside, likeliest
from shoestring.models.prediction import Collecting, OnScores, scored
from shoestring.models.scoring import Reader, Scorer
from shoestring.models.sharing import BESIDE, CACHED, FOLDED, IN_LINE, PADDED, ROWS, Sharing, longest_of
from shoestring.products import quick_products
from shoestring.progress import Bar
from shoestring.prompts.encoding import EncodedPrompt, Encoder
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

_PROBED = 8
"""Tokens of a prompt that are read to find out whether it can be answered beside others."""


@dataclass
class Passes:
    """Counts of passes through the model: batches, and examples in them."""

    forward: int = 0
    backward: int = 0
    forward_examples: int = 0
    backward_examples: int = 0


@dataclass(frozen=True)
class PromptedModel:
    """Model, prompt and scorer of one task.

    Attributes:
        passes: counts every forward pass made through it, but for comparisons that find out what the model can do.
        sharing: what was found out about rows in which several continuations share their beginning.
        budget: most tokens of a forward pass in prediction.
        generator: writes answers, of a generation task.
    """

    model: PreTrainedModel
    task: Task
    encoder: Encoder
    scorer: Scorer
    pad_id: int
    passes: Passes = field(default_factory=Passes)
    settings: PromptSettings = field(default_factory=PromptSettings)
    sharing: Sharing = field(default_factory=Sharing)
    budget: Budget = field(default_factory=Budget)
    generator: Generator | None = None

    def encode(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the encoded prompts of `examples`, in order."""
        return [self.encoder.encode(example) for example in examples]

    def collate(self, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return one padded batch, on the CPU; with long candidates, rows that hold each prompt once.

        Whether the model computes those exactly is found out with the first such batch; else there are none.
        """
        return collate(prompts, self.pad_id, share=self._shares([prompt.taught or prompt for prompt in prompts]))

    def fold(self, batch: Batch, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return a batch of prompts with several in a row, where that saves padding and the model computes it.

        Whether it does is found out with the first such batch.

        Args:
            batch: what `prompts` were collated to.
            prompts: N encoded prompts.
        """
        causal = getattr(self.scorer, "folds_causally", None)
        if causal is None or not foldable(batch) or pads_inside(self.model, batch) or (is_long(batch) and not causal):
            return batch
        prompts = [prompt.taught or prompt for prompt in prompts]
        way = IN_LINE if is_long(batch) else FOLDED
        if not self.sharing.folds(self.model, way, longest_of(prompts), causal=causal):
            return batch
        cost = Cost(width_of(self.model.config), causal=causal)
        found = fold(batch, self.pad_id, longest_row(self.model.config), trees_of(batch, prompts), cost)
        if found is None:
            return batch
        if not self.sharing.settled(way):
            with forward_only(self.model):
                self._try_folding(way, prompts)
        return found if self.sharing.found.get(way, False) else batch

    def may_share(self, way: str) -> bool:
        """Return whether a way of sharing may be tried, or is known to be exact."""
        return getattr(self.scorer, "shares_prompts", False) and self.sharing.admits(self.model, way)

    def scores(self, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return scores [N, C] of a batch on the model's device, with gradients where they are on.

        With `relative`, a number that all candidates of an example share may be left out (`Scorer.scores`). Sums of
        log-probabilities become means over a candidate's tokens, unless the settings ask for sums. A candidate that is
        not there scores -inf.
        """
        self._count(batch)
        sums = self.scorer.scores(self.model, batch, relative=relative)
        if "option_scored" not in batch:
            return sums
        lengths = batch["option_scored"].sum(-1)
        scores = sums if self.settings.sums else sums / lengths.clamp(min=1)
        return scores.masked_fill(lengths == 0, -torch.inf)

    def answer_log_probs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log p of the right answers [N] and their numbers of tokens [N]."""
        self._count(batch)
        return self.scorer.answer_log_probs(self.model, batch)

    def text_log_probs(self, batch: Batch) -> Tensor:
        """Return log p of prompts with their right answers, but for their first tokens [N].

        Raises:
            ModelError: if the model is not causal: it gives no probability to what it reads.
        """
        if not isinstance(self.scorer, Reader):
            raise ModelError("only a causal model gives its prompt a probability: use model.kind='causal'")
        self._count(batch)
        return self.scorer.text_log_probs(self.model, batch)

    def predict(
        self,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        on_scores: OnScores | None = None,
    ) -> Tensor:
        """Return scores [N, C] of all prompts, in their order, on the CPU; eval mode, no gradients.

        Inputs that are the same are scored once, and what inputs begin with in common is computed once, where the model
        allows it. Scores do not depend on any of that, nor on `batch_size`, beyond rounding.

        Args:
            prompts: encoded prompts.
            batch_size: most inputs of a forward pass, which `budget` bounds too.
            bar: advanced by one for each input (a prompt, its variants and calibrations: `inputs_of`).
            on_scores: called with the number of a prompt and its scores [C] as soon as they are there, in any order.

        Raises:
            ModelError: if memory does not suffice for a single input.
        """
        collecting = Collecting(self, prompts, bar, on_scores)
        with forward_only(self.model):
            for phase in collecting.phases:
                for place, row in scored(self, [collecting.inputs[index] for index in phase], batch_size):
                    collecting.take(phase[place], row)
        return collecting.scores()

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        on_text: OnText | None = None,
        *,
        greedy: bool = False,
    ) -> list[str]:
        """Return the model's written answers to prompts, in their order; eval mode, no gradients.

        In `passes` a batch of answers counts as one forward pass, however long they are.

        Args:
            prompts: encoded prompts; their variants are not looked at.
            batch_size: most prompts of a batch, which `budget` bounds too.
            bar: advanced by one for each prompt.
            on_text: called with the number of a prompt and its answer as soon as that is there, in any order.
            greedy: take the likeliest token whatever the run's settings are.

        Raises:
            ModelError: if there is no generator, or nothing could end an answer, or memory does not suffice for one.
        """
        if self.generator is None:
            raise ModelError(f"task {self.task.name}: this model was given no generator to write answers with")
        self.passes.forward += -(-len(prompts) // batch_size)
        self.passes.forward_examples += len(prompts)
        generator = self.generator.greedy if greedy else self.generator
        # Scores of the same prompts, which are made before, have found out whether the model can share.
        longest = max((len(prompt.ids) for prompt in prompts), default=0) + generator.limits.max_new_tokens
        share = self.sharing.found.get(CACHED, False) and self.sharing.fits(self.model, longest)
        with forward_only(self.model):
            size, pads = self._together(prompts, batch_size)
            generator = replace(generator, pads=pads)
            return generator.generate(self.model, prompts, size, bar, self.budget, on_text, share=share)

    def _shares(self, prompts: Sequence[EncodedPrompt]) -> bool:
        long = [prompt for prompt in prompts if len(prompt.options) > 1 and max(map(len, prompt.options)) > 1]
        if not long or not self.may_share(ROWS) or not self.sharing.fits(self.model, longest_of(prompts)):
            return False
        if self.sharing.settled(ROWS):
            return True
        probe = [min(long, key=lambda prompt: len(prompt.ids))]
        with forward_only(self.model):
            alone, together = (self._on_device(collate(probe, self.pad_id, share=share)) for share in (False, True))
            plain = self.scorer.scores(self.model, alone)
            return self.sharing.compare(self.model, ROWS, lambda: self.scorer.scores(self.model, together), plain)

    def _try_folding(self, way: str, prompts: Sequence[EncodedPrompt]) -> None:
        """Find out whether two short prompts score in one row what they do alone, whatever stands beside them."""
        # Candidates of several tokens are the harder part, where there are any.
        pair = sorted(prompts, key=lambda prompt: (max(map(len, prompt.options)) == 1, len(prompt.ids)))[:2]

        def in_one_row(pair: Sequence[EncodedPrompt]) -> Tensor:
            batch = collate(pair, self.pad_id)
            row = unfolded(folded(batch, [[0, 1]], self.pad_id, trees_of(batch, pair)))
            return self.scorer.scores(self.model, self._on_device(row))

        plain = self.scorer.scores(self.model, self._on_device(collate(pair, self.pad_id)))
        if self.sharing.compare(self.model, way, lambda: in_one_row(pair), plain):
            scores = in_one_row(pair)
            for place, prompt in enumerate(pair):
                moved = [*pair]
                moved[place] = other_of(prompt)
                if self.sharing.leaks(self.model, way, scores[1 - place], in_one_row(moved)[1 - place]):
                    return

    def _together(self, prompts: Sequence[EncodedPrompt], batch_size: int) -> tuple[int, bool]:
        """Return how many prompts may be answered together, and whether these may have different lengths.

        Both are asked of the model when several are first. An encoder has a mask, and its prompts are padded behind
        their ends.
        """
        if self.model.config.is_encoder_decoder or min(batch_size, len(prompts)) < 2:
            return batch_size, True
        self.sharing.meet(self.model)
        tokens = min((prompt.ids for prompt in prompts), key=len)[-_PROBED:]
        if self._computes(PADDED, tokens, tokens + tokens):
            return batch_size, True
        return (batch_size if self._computes(BESIDE, tokens, tokens[::-1]) else 1), False

    def _computes(self, way: str, tokens: tuple[int, ...], other: tuple[int, ...]) -> bool:
        if not self.sharing.settled(way):
            plain, likely = likeliest(self.model, tokens, self.pad_id)
            self.sharing.compare(self.model, way, lambda: beside(self.model, tokens, other, self.pad_id, likely), plain)
        return self.sharing.found.get(way, False)

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.model.device) for name, value in batch.items()}

    def _count(self, batch: Batch) -> None:
        self.passes.forward += 1
        self.passes.forward_examples += examples_in(batch)


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


@contextmanager
def forward_only(model: torch.nn.Module) -> Iterator[None]:
    """Make forward passes as fast as they can be: in eval mode, without gradients, by the faster library."""
    with torch.no_grad(), evaluating(model), quick_products(model.parameters()):
        yield
