"""Prompts in colour: what is special token, template, text of the example, mask, label word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from shoestring.prompts.rendering import render_text
from shoestring.prompts.template import Piece, Pieces, Sentence, Special
from shoestring.prompts.template import Text as Literal

if TYPE_CHECKING:
    from shoestring.prompts.codec import Codec
    from shoestring.prompts.parts import Part

SPECIAL, MASK, TEMPLATE, SENTENCE, WORD = "magenta", "black on yellow", "cyan", "default", "green"
DEMONSTRATION = "blue"


def style(piece: Piece) -> str:
    """Return the colour of a piece."""
    match piece:
        case Special("mask"):
            return MASK
        case Special():
            return SPECIAL
        case Sentence():
            return SENTENCE
        case Literal():
            return TEMPLATE
        case _:
            return WORD


def legend() -> Text:
    """Return what the colours mean; empty without colours."""
    from shoestring.cli import screen

    if not screen.out().is_terminal:
        return Text("")
    names = {"special token": SPECIAL, "template": TEMPLATE, "text": SENTENCE, "mask": MASK, "label word": WORD}
    return Text("  ").join([Text("colours:", "dim"), *(Text(name, colour) for name, colour in names.items())])


def spans(pieces: Pieces, sentences: Sequence[str], words: Sequence[str], labels: Sequence[int] = ()) -> Text:
    """Return a prompt as text, each piece in its colour; line breaks shown as such.

    Args:
        pieces: a parsed template.
        sentences: the example's sentences, then those of its demonstrations.
        words: each label word as it stands in a prompt.
        labels: label id of each demonstration.
    """
    shown = ((visible(render_text((piece,), sentences, words, labels)), style(piece)) for piece in pieces)
    return Text.assemble(*shown)


def tokens(parts: Iterable[Part], codec: Codec) -> Text:
    """Return a prompt's tokens as the vocabulary has them, each in the colour of its piece."""
    return Text(" ").join(Text(visible(token), style(part.piece)) for part in parts for token in codec.tokens(part.ids))


def painted(codec: Codec, ids: Sequence[int], colour: str = SENTENCE) -> Text:
    """Return tokens as the vocabulary has them, special ones in their own colour."""
    special = set(codec.tokenizer.all_special_ids)
    shown = zip(ids, codec.tokens(list(ids)), strict=True)
    return Text(" ").join(Text(visible(token), SPECIAL if one in special else colour) for one, token in shown)


def visible(text: str) -> str:
    """Return a text on one line, its line breaks and tabs shown as such."""
    return text.replace("\n", "⏎").replace("\t", "⇥")


def line(head: str, text: Text) -> Text:
    """Return a line of a head and a text."""
    return Text.assemble((f"  {head:<9}", "dim"), text)


def counted(title: Text, count: int, limit: int, cut: int) -> Text:
    """Return a title with the number of tokens of an input."""
    lost = f", {cut} more cut off" if cut else ""
    return Text.assemble(title, (f"  {count} of at most {limit} tokens{lost}", "dim"))
