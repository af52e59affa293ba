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


def spans(pieces: Pieces, sentences: Sequence[str], words: Sequence[str]) -> Text:
    """Return a prompt as text, each piece in its colour; line breaks shown as such."""
    return Text.assemble(*((_visible(render_text((piece,), sentences, words)), style(piece)) for piece in pieces))


def tokens(parts: Iterable[Part], codec: Codec) -> Text:
    """Return a prompt's tokens as the vocabulary has them, each in the colour of its piece."""
    return Text(" ").join(
        Text(_visible(token), style(part.piece)) for part in parts for token in codec.tokens(part.ids)
    )


def _visible(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥")
