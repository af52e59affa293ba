"""Models whose kernels are small enough for loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import tiny
from shoestring.kernels import Outputs, outputs_of

ALL = ("sgd", "signgd", "asymmetric-signgd")
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
    items: Sequence[Any]

    def names(self, subset: str = "full") -> tuple[str, ...]:
        return tuple(name for name, _ in self.outputs.model.named_parameters() if SUBSETS[subset](name))


@cache
def subject(name: str, *, difference: bool = True, count: int = 5, dtype: torch.dtype = torch.float64) -> Subject:
    architecture, kind, changes = MODELS[name] if name in MODELS else (name, _kind(name), {})
    prompted = tiny.prompted(architecture, kind, dtype=dtype, **changes)
    return Subject(outputs_of(prompted, difference=difference), tiny.encoded(prompted, count))


def _kind(architecture: str) -> str:
    return "masked" if architecture in tiny.MASKED else "causal"
