"""Prompts for people, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from shoestring.cli.paint import WORD, counted, line, painted, spans, tokens
from shoestring.errors import DataError
from shoestring.prompts.choose import choose
from shoestring.prompts.codec import Codec
from shoestring.prompts.demonstrations.encoder import DemonstrationEncoder
from shoestring.prompts.demonstrations.templated import label_number
from shoestring.prompts.encoding import PromptEncoder, find_template
from shoestring.prompts.ensemble import Ensemble
from shoestring.prompts.label_words import label_words
from shoestring.prompts.rendering import head_pieces

if TYPE_CHECKING:
    from shoestring.cli.preview import Preview
    from shoestring.data.example import Example
    from shoestring.prompts.encoding import EncodedPrompt, Encoder
    from shoestring.prompts.settings import PromptSettings
    from shoestring.prompts.template import Pieces


@dataclass(frozen=True)
class Asked:
    """An example and how it is asked about.

    Attributes:
        preview: task, kind of model, tokenizer.
        settings: the prompt settings, with one template.
        encoder: the encoder of this template, where there is a tokenizer.
        example: the example.
        known: whether its label means anything.
    """

    preview: Preview
    settings: PromptSettings
    encoder: Encoder | None
    example: Example
    known: bool


def lines(preview: Preview, where: str, example: Example, *, known: bool) -> Iterator[Text]:
    """Yield what is shown of one example: with each template its text, and where there is a tokenizer its tokens.

    Args:
        preview: task, settings, tokenizer.
        where: what stands in front of the example's name.
        example: the example.
        known: whether its label means anything.

    Raises:
        ShoestringError: what encoding the example raises.
    """
    from shoestring.cli.preview_text import text_lines

    settings, encoder = preview.settings.prompt, preview.encoder
    names = settings.templates or (settings.template,)
    encoders = encoder.ways if isinstance(encoder, Ensemble) else (encoder,) * len(names)
    for number, (name, one) in enumerate(zip(names, encoders, strict=True)):
        chosen = settings.model_copy(update={"template": name, "templates": ()})
        title = Text(where + example.uid, "bold") if number == 0 else Text(f"  or by {name}", "bold")
        text = preview.kind != "head" and choose(preview.settings.task, preview.kind, chosen).form == "text"
        yield from (text_lines if text else _lines)(Asked(preview, chosen, one, example, known), title)


def others(prompt: EncodedPrompt) -> Iterator[Text]:
    """Yield how many more ways of asking there are."""
    if prompt.variants:
        yield line("", Text(f"and {len(prompt.variants)} more draws of demonstrations", "dim"))


def _lines(asked: Asked, title: Text) -> Iterator[Text]:
    """Yield a prompt in LM-BFF's language, or the bare sentences of a head."""
    preview, example, encoder = asked.preview, asked.example, asked.encoder
    codec = None if preview.tokenizer is None else Codec(preview.tokenizer)
    if encoder is None or codec is None:
        if asked.settings.demonstrations is not None:
            raise DataError("prompt.demonstrations", "are shown with a tokenizer; give --model")
        pieces, words = _pieces(asked)
        yield title
        yield line("text", spans(pieces, example.sentences, words))
        yield from _answers(asked, words, ())
        return
    draw = encoder.draws(example)[0] if isinstance(encoder, DemonstrationEncoder) else ()
    own = encoder.asked if isinstance(encoder, DemonstrationEncoder) else encoder
    if not isinstance(own, PromptEncoder):
        return
    parts, cut = own.parts(example, draw)
    prompt = encoder.encode(example)
    words = () if own.words is None else own.words.texts("masked" if preview.kind == "masked" else "causal")
    sentences = tuple(text for one in (example, *draw) for text in one.sentences)
    labels = [label_number(preview.settings.task, one) for one in draw]
    yield counted(title, sum(len(part.ids) for part in parts), encoder.limit, cut)
    yield line("text", spans(own.pieces, sentences, words, labels))
    yield line("tokens", tokens(parts, codec))
    yield from _answers(asked, words, own.options)
    for without in prompt.calibrations:
        yield line("nothing", painted(codec, without.ids))
    yield from others(prompt)


def _pieces(asked: Asked) -> tuple[Pieces, tuple[str, ...]]:
    """Return the parsed template and the label words as they stand in a prompt."""
    preview, task = asked.preview, asked.preview.settings.task
    if preview.kind == "head":
        return head_pieces(len(task.sentences), cls_and_sep=True), ()
    pieces, template = find_template(task, preview.kind, asked.settings)
    words = label_words(task, template, asked.settings.label_words)
    return pieces, words.texts("masked" if preview.kind == "masked" else "causal")


def _answers(asked: Asked, words: tuple[str, ...], options: tuple[tuple[int, ...], ...]) -> Iterator[Text]:
    """Yield the candidates, the right one marked; for a head or a value, the label."""
    task, example = asked.preview.settings.task, asked.example
    if asked.known and (task.range is not None or not words):
        yield line("label" if task.range is None else "value", Text(str(example.label)))
    for at, (name, word) in enumerate(zip(task.label_names, words, strict=bool(words))):
        right = asked.known and name == example.label
        ids = f" {list(options[at])}" if options else ""
        mark = (" <- label", "bold") if right else ""
        text = Text.assemble((repr(word), f"bold {WORD}" if right else WORD), (f"{ids}  {name}", "dim"), mark)
        yield line("answers" if at == 0 else "", text)
