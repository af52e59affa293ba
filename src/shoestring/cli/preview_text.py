"""Prompts of text forms for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from shoestring.cli.paint import DEMONSTRATION, SENTENCE, WORD, counted, line, painted, visible
from shoestring.cli.preview_lines import Asked, others
from shoestring.prompts.choose import choose
from shoestring.prompts.codec import Codec
from shoestring.prompts.label_words import label_words
from shoestring.prompts.text import TextEncoder
from shoestring.prompts.text_answers import Answers
from shoestring.prompts.text_template import TextTemplate
from shoestring.prompts.text_writing import Writer

if TYPE_CHECKING:
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.prompts.text_rendering import Written
    from shoestring.prompts.text_writing import Way


def text_lines(asked: Asked, title: Text) -> Iterator[Text]:
    """Yield a prompt of a text form, its candidates, and what asks about nothing."""
    encoder, tokenizer, example = asked.encoder, asked.preview.tokenizer, asked.example
    if tokenizer is None or not isinstance(encoder, TextEncoder):
        answers, way = _written(asked)
        yield title
        yield line("text", _question(way.question))
        yield from _answers(asked, answers, way, None)
        yield from _nothing(way, None, None)
        return
    prompt, way, codec = encoder.encode(example), encoder.ways(example)[0], Codec(tokenizer)
    longest = max((len(option) for option in prompt.options), default=0)
    own = len(prompt.ids) + (longest if encoder.task.has_scores and prompt.position is not None else 0)
    yield counted(title, own, encoder.limit, prompt.truncated)
    yield line("text", _question(way.question))
    yield line("tokens", painted(codec, _before(prompt)))
    yield from _answers(asked, encoder.answers, way, prompt)
    yield from _nothing(way, prompt, codec)
    yield from others(prompt)


def _written(asked: Asked) -> tuple[Answers, Way]:
    """Return an example as it is asked, where there is no tokenizer."""
    preview, task = asked.preview, asked.preview.settings.task
    chosen = choose(task, preview.kind, asked.settings)
    words = label_words(task, chosen.template, asked.settings.label_words).words if task.labels else ()
    answers = Answers(task, words)
    writer = Writer(TextTemplate(task, chosen.name, chosen.text), answers, asked.settings, preview.pool)
    return answers, writer.ways(asked.example)[0]


def _question(question: Written) -> Text:
    """Return what is read before an answer, demonstrations in a colour of their own."""
    before = len(question.asked) - len(question.prompt)
    shown, own = question.asked[: max(0, before)], question.asked[max(0, before) :]
    return Text.assemble((visible(shown), DEMONSTRATION), (visible(own), SENTENCE))


def _answers(asked: Asked, answers: Answers, way: Way, prompt: EncodedPrompt | None) -> Iterator[Text]:
    """Yield the candidates, the right ones marked; of a generation task, every right answer."""
    task, example = asked.preview.settings.task, asked.example
    right = answers.right(example) if asked.known else ()
    for at, text in enumerate(way.question.answers):
        marked = at in right and task.kind != "generation"
        ids = "" if prompt is None else f" {_scored(prompt, at)}"
        name = f"  {task.label_names[at]}" if task.labels else ""
        mark = (" <- label", "bold") if marked else ""
        shown = Text.assemble((repr(text), f"bold {WORD}" if marked else WORD), (f"{ids}{name}", "dim"), mark)
        yield line(("answer" if task.kind == "generation" else "answers") if at == 0 else "", shown)
    for gold in example.golds[1:] if task.kind == "generation" else ():
        yield line("", Text.assemble(("or ", "dim"), (repr(gold), WORD)))


def _nothing(way: Way, prompt: EncodedPrompt | None, codec: Codec | None) -> Iterator[Text]:
    """Yield what asks about nothing: as text, then its tokens and those of its candidates."""
    for at, without in enumerate(way.calibrations):
        answers = Text(" | ").join(Text(repr(text), WORD) for text in without.answers)
        yield line("nothing", Text.assemble(_question(without), "  ", answers))
        if prompt is not None and codec is not None:
            found = prompt.calibrations[at]
            ids = [_scored(found, number) for number in range(len(found.options))]
            yield line("", Text.assemble(painted(codec, _before(found)), (f"  {ids}", "dim")))


def _before(prompt: EncodedPrompt) -> tuple[int, ...]:
    """Return what is read before the first candidate; others may have more or less of it, where it was cut."""
    lead = prompt.options[0][: len(prompt.options[0]) - prompt.scored_lengths[0]] if prompt.options else ()
    return (*prompt.ids, *lead)


def _scored(prompt: EncodedPrompt, number: int) -> list[int]:
    """Return the tokens of a candidate that are scored."""
    option = prompt.options[number]
    return list(option[len(option) - prompt.scored_lengths[number] :])
