"""Shapes of well-known models, with random weights: speed needs no trained ones, and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shoestring.errors import UnknownNameError
from shoestring.models.loading import longest_input
from shoestring.models.quiet import quiet
from shoestring.seeds import derive, torch_seeded

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_CLASSES = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}


@dataclass(frozen=True)
class Shape:
    """The shape of a model.

    Attributes:
        name: what it is asked for by.
        kind: how candidates are scored.
        architecture: transformers' name of it.
        sizes: what goes into its config.
    """

    name: str
    kind: Literal["causal", "masked"]
    architecture: str
    sizes: Mapping[str, Any]

    def config(self) -> PretrainedConfig:
        """Return transformers' config of it."""
        import transformers

        return transformers.AutoConfig.for_model(self.architecture, **self.sizes)

    @property
    def longest(self) -> int:
        """Longest input it reads."""
        return longest_input(self.config()) or 0

    def build(self, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """Return a model of this shape in eval mode: matrices N(0, 0.02^2), biases 0, norms 1, always the same."""
        import torch
        import transformers

        with torch_seeded(derive(0, "bench weights")), torch.device(device), quiet():
            return getattr(transformers, _CLASSES[self.kind]).from_config(self.config(), dtype=dtype).eval()


def _opt(name: str, hidden: int, layers: int, heads: int, vocab: int = 50272) -> Shape:
    sizes = {"hidden_size": hidden, "word_embed_proj_dim": hidden, "ffn_dim": 4 * hidden, "vocab_size": vocab}
    sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": 2048}
    return Shape(name, "causal", "opt", sizes)


def _roberta(name: str, hidden: int, layers: int, heads: int, vocab: int = 50265) -> Shape:
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "vocab_size": vocab, "type_vocab_size": 1}
    sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": 514}
    return Shape(name, "masked", "roberta", sizes)


SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        _opt("opt-125m", 768, 12, 12),
        _opt("opt-1.3b", 2048, 24, 32),
        _opt("opt-13b", 5120, 40, 40),
        _roberta("roberta-base", 768, 12, 12),
        _roberta("roberta-large", 1024, 24, 16),
        _opt("tiny", 64, 2, 4, vocab=512),
        _roberta("tiny-masked", 64, 2, 4, vocab=512),
    )
}


def shape_named(name: str) -> Shape:
    """Return the shape called `name`.

    Raises:
        UnknownNameError: if there is none; names the nearest.
    """
    if name not in SHAPES:
        raise UnknownNameError("shape of a model", name, SHAPES)
    return SHAPES[name]
