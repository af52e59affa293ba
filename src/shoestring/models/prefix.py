"""Beginnings that many inputs share: their keys and values, made once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shoestring.models.folding import first_position
from shoestring.models.scoring import logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the first `length` tokens of some inputs, layer by layer [1, heads, length, head size]."""

    length: int = 0
    layers: tuple[tuple[Tensor, Tensor], ...] = ()

    def cache(self) -> Any:
        """Return a new cache that holds them; a forward pass adds its own tokens to the cache, not to this."""
        from transformers import DynamicCache

        # Without a config all layers are of the kind that keeps everything: windows are never exceeded (`sharing`).
        cache = DynamicCache()
        for number, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, number)
        return cache

    def repeated(self, rows: int) -> Any:
        """Return a new cache that holds them for so many rows."""
        cache = self.cache()
        cache.batch_repeat_interleave(rows)
        return cache

    def extended(self, model: PreTrainedModel, tokens: Sequence[int], at_once: int) -> Prefix:
        """Return the prefix that is longer by `tokens`, from forward passes of at most `at_once` of them."""
        cache, device = self.cache(), model.device
        last = torch.zeros(1, 1, dtype=torch.long, device=device)
        for start in range(0, len(tokens), at_once):
            ids = torch.tensor([tokens[start : start + at_once]], device=device)
            begin = first_position(model) + self.length + start
            positions = torch.arange(begin, begin + ids.shape[1], device=device)[None]
            # Logits are of no interest here: those of one token are the fewest there can be.
            logits_at(model, {"input_ids": ids, "position_ids": positions, "past_key_values": cache}, last)
        kept = tuple((layer.keys, layer.values) for layer in cache.layers)
        return Prefix(self.length + len(tokens), kept)
