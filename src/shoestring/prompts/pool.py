"""The examples that demonstrations are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoestring.data.example import Example

Embed = Callable[[Sequence[str]], Any]
"""Texts to a NumPy array of embeddings, [N, D], each of length 1."""


@dataclass(frozen=True)
class Pool:
    """Labelled examples to demonstrate a task with, and the seed of every draw from them.

    Attributes:
        examples: what demonstrations are drawn from: the training examples.
        seed: seed of the named streams of draws.
        own: for examples that have a training set of their own (by uid), that set, used whole and in its order.
        embed: embeds texts, where demonstrations are filtered by similarity.
    """

    examples: tuple[Example, ...] = ()
    seed: int = 0
    own: Mapping[str, tuple[Example, ...]] = field(default_factory=dict[str, tuple[Example, ...]])
    embed: Embed | None = None
