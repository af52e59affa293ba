"""Pieces to token ids: each piece on its own, then put together, then cut to a limit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from shoestring.errors import ModelError
from shoestring.prompts.template import (
    DemonstrationWord,
    LabelWord,
    Piece,
    Pieces,
    Sentence,
    Special,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.prompts.codec import Codec
    from shoestring.prompts.label_words import Options
    from shoestring.prompts.settings import Truncate
    from shoestring.tasks.spec import Limits


_REMEMBERED = 4096
"""Texts of which an encoder remembers the tokens."""


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens of one piece.

    Attributes:
        piece: the piece they come from.
        ids: their ids; may be empty.
        segment: their segment id.
        cut: number of tokens already cut off by a sentence limit.
    """

    piece: Piece
    ids: list[int]
    segment: int
    cut: int = 0


class PieceEncoder:
    """Encodes the pieces of one template for one tokenizer; everything but the sentences is encoded once, here.

    Args:
        pieces: a parsed template.
        codec: the tokenizer.
        limits: limits on single sentences.
        options: token ids of each label word, by label id.

    Raises:
        ModelError: if the template needs a mask and the tokenizer has none.

    Source: princeton-nlp/LM-BFF src/dataset.py, `tokenize_multipart_input`.

    Differs: tokenizers that put a space in front of every text encode the later pieces in context (`Codec`).
    """

    def __init__(self, pieces: Pieces, codec: Codec, limits: Limits, options: Options = ()) -> None:
        self._codec, self._limits, self._options = codec, limits, options
        # The same demonstrations, and the same query in several draws, come again and again.
        self._tokens = lru_cache(_REMEMBERED)(self._encoded)
        self._steps: list[tuple[Piece, list[int] | None, bool, int]] = []
        segment, first = 0, True
        for piece in pieces:
            self._steps.append((piece, self._fixed(piece, first=first), first, segment))
            match piece:
                case Special("sep+"):
                    segment, first = segment + 1, True
                case Special("mask"):
                    first = False
                case Special():
                    first = True
                case _:
                    first = False

    def parts(self, sentences: Sequence[str], demonstration_labels: Sequence[int] = ()) -> list[Part]:
        """Return the tokens of every piece.

        Args:
            sentences: the example's sentences, then those of its demonstrations.
            demonstration_labels: label id of each demonstration.
        """
        parts: list[Part] = []
        for piece, fixed, first, segment in self._steps:
            if fixed is not None:
                parts.append(Part(piece, fixed, segment))
            elif isinstance(piece, Sentence):
                text = piece.render(sentences)
                ids = list(self._tokens(text, first))
                kept = ids[: self._limit(piece)]
                parts.append(Part(piece, kept, segment, len(ids) - len(kept)))
            elif isinstance(piece, DemonstrationWord):
                parts.append(Part(piece, list(self._options[demonstration_labels[piece.index]]), segment))
        return parts

    def _fixed(self, piece: Piece, *, first: bool) -> list[int] | None:
        match piece:
            case Special("mask"):
                return [mask_id(self._codec)]
            case Special(name):
                found = self._codec.special(name)
                return [] if found is None else [found]
            case Text(text):
                return self._codec.literal(text, first=first)
            case LabelWord(index):
                return list(self._options[index])
            case _:
                return None

    def _encoded(self, text: str, first: bool) -> tuple[int, ...]:
        return tuple(self._codec.encode(text) if first else self._codec.continuation(text))

    def _limit(self, piece: Sentence) -> int | None:
        limits = self._limits
        return limits.first_sentence_tokens if piece.index == 0 else limits.other_sentence_tokens


def mask_id(codec: Codec) -> int:
    """Return the id of the mask.

    Raises:
        ModelError: if the tokenizer has none.
    """
    found = codec.special("mask")
    if found is None:
        raise ModelError(
            f"{codec.name} has no mask token, but the template has a `*mask*`; use a masked model, or a causal template"
        )
    return found


class CannotCutError(Exception):
    """Parts that cannot be made to fit; the text says why. Never leaves this package: the encoder adds the example."""


def fit(parts: list[Part], limit: int, truncate: Truncate, keep: int | None) -> tuple[list[Part], int]:
    """Cut parts so that at most `limit` tokens are left; return them and the number of tokens cut.

    Args:
        parts: the parts of one input.
        limit: most tokens.
        truncate: how to cut.
        keep: index of the part that must stay whole, with all before it where the tail is cut, and all behind it where
            the head is; None if anything may be cut.

    Raises:
        CannotCutError: if there is no way.
    """
    excess = sum(len(part.ids) for part in parts) - limit
    if excess <= 0:
        return parts, 0
    if truncate == "error":
        raise CannotCutError("and prompt.truncate=error forbids cutting")
    if truncate == "sentence":
        return _cut_sentences(parts, excess), excess
    return _cut_head(parts, excess, keep) if truncate == "head" else _cut_tail(parts, limit, keep), excess


def _cut_tail(parts: list[Part], limit: int, keep: int | None) -> list[Part]:
    cut: list[Part] = []
    for number, part in enumerate(parts):
        room = limit - sum(len(before.ids) for before in cut)
        if keep is not None and number <= keep and len(part.ids) > room:
            raise CannotCutError(f"and cutting its tail would cut off {_kept(parts[keep])}")
        cut.append(replace(part, ids=part.ids[: max(room, 0)]))
    return cut


def _cut_head(parts: list[Part], excess: int, keep: int | None) -> list[Part]:
    cut: list[Part] = []
    for number, part in enumerate(parts):
        lost = min(len(part.ids), excess)
        if lost and keep is not None and number >= keep:
            raise CannotCutError(f"and cutting its head would cut off {_kept(parts[keep])}")
        cut.append(replace(part, ids=part.ids[lost:]))
        excess -= lost
    return cut


def _kept(part: Part) -> str:
    return "the mask" if part.piece == Special("mask") else "the end of its template"


def _cut_sentences(parts: list[Part], excess: int) -> list[Part]:
    lengths = {number: len(part.ids) for number, part in enumerate(parts) if isinstance(part.piece, Sentence)}
    for _ in range(excess):
        longest = max(lengths, key=lambda number: (lengths[number], number), default=None)
        if longest is None or lengths[longest] <= 1:
            raise CannotCutError("and its template leaves no room for the sentences")
        lengths[longest] -= 1
    return [replace(part, ids=part.ids[: lengths[n]]) if n in lengths else part for n, part in enumerate(parts)]
