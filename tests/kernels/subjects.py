"""Models whose kernels are small enough for loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import tiny
from shoestring.kernels import Outputs, outputs_of
from shoestring.prompts.encoding import EncodedPrompt

ALL = ("sgd", "signgd", "asymmetric-signgd")
SMALL: dict[str, Any] = {"num_hidden_layers": 1, "vocab_size": 300}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "roberta": ("roberta", "masked", {}),
    "bert": ("bert", "masked", {}),
    "opt": ("opt", "causal", {}),
    "llama": ("llama", "causal", {}),
    "llama-tied": ("llama", "causal", {"tie_word_embeddings": True}),
    "head": ("roberta", "head", {}),
}
SUBSETS: dict[str, Callable[[str], bool]] = {
    "full": lambda name: True,
    "no-embeddings": lambda name: "embed" not in name,
    "no-head": lambda name: "head" not in name and "classifier" not in name,
    "last-layer": lambda name: ".1." in name,
    "biases": lambda name: "bias" in name or "norm" in name,
    "embeddings": lambda name: "embed" in name,
}


@dataclass(frozen=True)
class Subject:
    outputs: Outputs
    items: list[EncodedPrompt]

    def names(self, subset: str = "full") -> tuple[str, ...]:
        return tuple(name for name, _ in self.outputs.model.named_parameters() if SUBSETS[subset](name))


@cache
def subject(name: str, *, difference: bool = True, count: int = 5, dtype: torch.dtype = torch.float64) -> Subject:
    architecture, kind, changes = MODELS[name] if name in MODELS else (name, _kind(name), {})
    prompted = tiny.prompted(architecture, kind, dtype=dtype, **changes)
    return Subject(outputs_of(prompted, difference=difference), tiny.encoded(prompted, count))


def _kind(architecture: str) -> str:
    return "masked" if architecture in tiny.MASKED else "causal"


@dataclass(frozen=True)
class Point:
    """An example that is a few vectors."""

    uid: str
    values: Tensor

    @property
    def ids(self) -> Tensor:
        return self.values


def points(count: int, tokens: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Point]:
    stream = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, tokens, size, generator=stream, dtype=torch.float64).to(dtype)
    return [Point(f"point:{number}", values) for number, values in enumerate(drawn)]


def of_points(model: nn.Module, scores: Callable[[nn.Module, Tensor], Tensor] | None = None) -> Outputs:
    """Return the outputs of a model of vectors: the mean over the tokens, unless told otherwise."""
    read = scores or (lambda model, values: model(values).mean(1))

    def collate(items: Sequence[Any]) -> dict[str, Tensor]:
        return {"values": torch.stack([item.values for item in items])}

    return Outputs(model, lambda batch: read(model, batch["values"]), collate)
