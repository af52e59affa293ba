"""Whole texts to token ids, and sequences to prompts with their candidates."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from shoestring.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.codec import Codec
    from shoestring.prompts.label_words import Options

Ids = tuple[int, ...]
_PROBES = ("a", "the", "0", ".")


class TextTokens:
    """Encodes whole texts with the special tokens of the tokenizer.

    A causal model's input begins with what the tokenizer puts in front and goes without what it puts behind, for more
    is to follow; a sequence-to-sequence model's has both.

    Args:
        codec: the tokenizer.
        closed: whether inputs keep the tokens at their end.
        begin: a token that inputs begin with instead of the tokenizer's own.

    Attributes:
        closed: as given.
        opening: special tokens in front of every input.
        closing: special tokens behind every input.

    Raises:
        ModelError: if the tokenizer does not know `begin`.

    Differs: MeZO keeps what a tokenizer puts behind a causal prompt (RoBERTa's and BERT's do, those of causal models do
        not), and then scores it in place of the answer.
    """

    def __init__(self, codec: Codec, *, closed: bool, begin: str | None = None) -> None:
        self.codec, self.tokenizer = codec, codec.tokenizer
        self._before, behind = _added(self.tokenizer, codec)
        self._behind = len(behind)
        self.opening = self._before if begin is None else (_known(begin, codec),)
        self.closed, self.closing = closed, behind if closed else ()

    def encode(self, texts: Iterable[str]) -> dict[str, Ids]:
        """Return the ids of every text."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        # verbose=False: how long an input may be is checked by us, with the example's name.
        encoded = self.tokenizer(distinct, verbose=False, return_attention_mask=False, return_token_type_ids=False)
        rows = cast("list[list[int]]", encoded["input_ids"])
        first = len(self._before)
        inner = (tuple(row[first : len(row) - self._behind]) for row in rows)
        return {text: self.opening + ids + self.closing for text, ids in zip(distinct, inner, strict=True)}

    @property
    def begin(self) -> int | None:
        """Return the id of the token that texts begin with, or None where the tokenizer has none."""
        return self.opening[0] if self.opening else cast("int | None", self.tokenizer.bos_token_id)

    @property
    def end(self) -> int:
        """Return the id of the end-of-text token.

        Raises:
            ModelError: if the tokenizer has none.
        """
        found = cast("int | None", self.tokenizer.eos_token_id)
        if found is None:
            raise ModelError(f"{self.codec.name} has no end-of-text token, which answers are to end with")
        return found

    def cut(self, ids: Ids, limit: int, *, tail: bool = False) -> Ids:
        """Return at most `limit` ids: those at the end, or with `tail` those at the beginning; special tokens stay."""
        if len(ids) <= limit:
            return ids
        first, last = len(self.opening), len(ids) - len(self.closing)
        room = max(0, limit - first - len(self.closing))
        inner = ids[first:last]
        kept = inner[:room] if tail else inner[len(inner) - room :]
        return self.opening + kept + self.closing


@dataclass(frozen=True, slots=True)
class Split:
    """Sequences split where they part: what they all begin with, and what follows in each.

    Attributes:
        ids: what all sequences begin with, up to the first token that is scored in any of them.
        options: the rest of each.
        scored: how many tokens at the end of each option are scored; () for all.
    """

    ids: Ids
    options: Options
    scored: tuple[int, ...]


def split(sequences: Sequence[Ids], scored: Sequence[int]) -> Split:
    """Split sequences whose last tokens are scored, `scored` of each.

    >>> split([(0, 5, 7), (0, 5, 8, 9)], [1, 2])
    Split(ids=(0, 5), options=((7,), (8, 9)), scored=())
    >>> split([(0, 4, 5, 7), (0, 5, 8, 9)], [1, 2])
    Split(ids=(0,), options=((4, 5, 7), (5, 8, 9)), scored=(1, 2))
    """
    before = [ids[: len(ids) - count] for ids, count in zip(sequences, scored, strict=True)]
    length = common(before)
    options = tuple(ids[length:] for ids in sequences)
    whole = all(len(option) == count for option, count in zip(options, scored, strict=True))
    return Split(sequences[0][:length], options, () if whole else tuple(scored))


def common(sequences: Sequence[Ids]) -> int:
    """Return how many tokens all sequences begin with.

    >>> common([(0, 5, 7), (0, 5, 8, 9)])
    2
    """
    if len(set(sequences)) == 1:
        return len(sequences[0])
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*sequences, strict=False))
    return sum(1 for _ in alike)


def _added(tokenizer: PreTrainedTokenizerBase, codec: Codec) -> tuple[Ids, Ids]:
    """Return the special tokens that a tokenizer puts in front of a text and behind it."""
    for probe in _PROBES:
        bare = codec.encode(probe)
        whole = cast("list[int]", tokenizer.encode(probe, verbose=False))
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    raise ModelError(
        f"{codec.name} encodes a text otherwise where special tokens are added, so they cannot be told apart"
    )


def _known(token: str, codec: Codec) -> int:
    found = codec.lookup(token)
    if found is None:
        raise ModelError(f"prompt.begin={token!r} is not in the vocabulary of {codec.name}")
    return found
