"""The work of a step: a model, a batch, and the loss our methods compute on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.bench.settings import Workload
from shoestring.bench.shapes import Shape
from shoestring.errors import ModelError
from shoestring.models.batch import Batch
from shoestring.models.folding import fold, row_losses
from shoestring.models.scoring import SCORERS
from shoestring.models.tail import Tail, tail_of
from shoestring.seeds import torch_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SPECIAL, _PAD = 5, 1  # ids below are special tokens


@dataclass(frozen=True)
class Work:
    """A model of some shape with one batch of prompts, one row an example."""

    shape: Shape
    model: PreTrainedModel
    batch: Batch

    @property
    def weights(self) -> int:
        """Bytes of the weights, tied ones once."""
        return sum(param.numel() * param.element_size() for param in self.model.parameters())

    @cached_property
    def tail(self) -> Tail:
        """The modules of which only positions that are read need computing."""
        return tail_of(self.model)

    @cached_property
    def folded(self) -> Batch:
        """The batch with several prompts in a row, where that saves padding."""
        return fold(self.batch, _PAD, self.shape.longest) or self.batch

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy over the candidates [N]; logits are made only where they are read."""
        return row_losses(self._losses, batch)

    def _losses(self, batch: Batch) -> Tensor:
        scores = SCORERS.get(self.shape.kind).scores(self.model, batch, relative=True)
        return functional.cross_entropy(scores, batch["labels"], reduction="none")

    def loss(self) -> Tensor:
        """Return the mean loss of the batch, a scalar."""
        return self.losses(self.batch).mean()


def prepare(shape: Shape, dtype: str, workload: Workload, device: torch.device) -> Work:
    """Return a model of this shape and a batch of random tokens, always the same ones.

    Raises:
        ModelError: if the model cannot read as many tokens.
    """
    check(shape, workload)
    model = shape.build(getattr(torch, dtype), device)
    stream = torch_stream(0, "bench tokens", shape.name)
    count, length, choices = workload.batch_size, workload.tokens, workload.candidates
    vocabulary = int(model.config.vocab_size)
    shortest = length if workload.shortest is None else workload.shortest
    lengths = torch.linspace(length, shortest, count).round().long()
    there = torch.arange(length) < lengths[:, None]
    ids = torch.randint(_SPECIAL, vocabulary, (count, length), generator=stream)
    batch = {
        "input_ids": ids.masked_fill(~there, _PAD),
        "attention_mask": there.long(),
        "token_type_ids": torch.zeros(count, length, dtype=torch.long),
        "labels": torch.randint(choices, (count,), generator=stream),
        # An answer follows the prompt; a mask stands before the full stop and the end.
        "position": lengths - (1 if shape.kind == "causal" else 3),
        "option_ids": torch.arange(_SPECIAL, _SPECIAL + choices).repeat(count, 1)[..., None],
        "option_mask": torch.ones(count, choices, 1, dtype=torch.long),
        "option_scored": torch.ones(count, choices, 1, dtype=torch.long),
    }
    return Work(shape, model, {name: value.to(device) for name, value in batch.items()})


def check(shape: Shape, workload: Workload) -> None:
    """Check that a model can read a workload.

    Raises:
        ModelError: if prompt and answer are too long for it, or its vocabulary is smaller than the candidates; or if
            the shortest prompt is longer than the others.
    """
    if workload.shortest is not None and workload.shortest > workload.tokens:
        raise ModelError(f"shortest={workload.shortest}: no prompt has more than tokens={workload.tokens}")
    answer = 1 if shape.kind == "causal" else 0
    if workload.tokens + answer > shape.longest:
        most = shape.longest - answer
        raise ModelError(f"tokens={workload.tokens}: {shape.name} reads prompts of at most {most} tokens")
    if workload.candidates > (most := shape.sizes["vocab_size"] - _SPECIAL):
        raise ModelError(f"candidates={workload.candidates}: {shape.name} has only {most} ordinary tokens")
