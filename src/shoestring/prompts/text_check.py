"""What is wrong with a task's text forms: for `shoestring tasks check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.data.example import Example
from shoestring.errors import ShoestringError, TemplateError
from shoestring.prompts.label_words import label_words
from shoestring.prompts.pool import Pool
from shoestring.prompts.settings import PromptSettings
from shoestring.prompts.text import TextEncoder
from shoestring.prompts.text_answers import Answers
from shoestring.prompts.text_template import TextTemplate
from shoestring.prompts.text_writing import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.settings import Kind
    from shoestring.tasks.spec import Golden, Task, Template

_STAND_IN = "a text"


def golden_example(task: Task, golden: Golden, uid: str) -> Example:
    """Return a golden rendering as an example: the first label, or the first candidate, stands for the right answer."""
    if task.range is not None:
        return Example(uid, golden.sentences, task.range.low)
    if task.labels:
        return Example(uid, golden.sentences, task.label_names[0])
    first = golden.candidates[:1]
    if task.kind == "generation":
        return Example(uid, golden.sentences, "".join(first), golds=golden.candidates)
    return Example(uid, golden.sentences, "".join(first), golden.candidates, first)


def text_problems(task: Task) -> Iterator[str]:
    """Yield what is wrong with the text forms themselves: not Jinja, names that are none, texts that are not used."""
    for name, template in task.templates.items():
        if template.text is None:
            continue
        try:
            unseen = TextTemplate(task, name, template.text).unseen()
        except ShoestringError as error:
            yield str(error)
            continue
        for text in unseen:
            yield f"task {task.name}, template {name!r} (text): the text {text!r} is never shown to the model"


def text_golden_problems(task: Task, golden: Golden, where: str) -> Iterator[str]:
    """Yield where a golden rendering is not what the text form of its template makes of its example."""
    if golden.text is None and not golden.answers and golden.calibration is None:
        return
    name = golden.template or next(iter(task.templates), "")
    try:
        template = task.template(golden.template)
        if template.text is None:
            yield f"{where}: has a text rendering, but its template has no text form"
            return
        example = golden_example(task, golden, where.rpartition(", ")[2])
        found = _rendered(task, name, template, golden, example)
    except ShoestringError as error:
        yield str(error) if "example" in str(error) else f"{where}: {error}"
        return
    wanted = {"prompt": golden.text, "answers": golden.answers or None, "calibration prompt": golden.calibration}
    for what, text in wanted.items():
        if text is not None and found[what] != text:
            yield f"{where}: the {what} of the text form {_is(what)} {found[what]!r}, but the file says {text!r}"


def _is(what: str) -> str:
    return "are" if what.endswith("s") else "is"


def _rendered(task: Task, name: str, template: Template, golden: Golden, example: Example) -> dict[str, object]:
    if template.text is None:
        return {}
    words = label_words(task, template).words if task.labels else ()
    calibrated = golden.calibration is not None and task.kind != "generation"
    settings = PromptSettings(calibration="surface-form" if calibrated else None)
    writer = Writer(TextTemplate(task, name, template.text), Answers(task, words), settings, Pool())
    way = writer.ways(example)[0]
    asked = way.question.asked
    return {
        "prompt": asked,
        "answers": tuple(text[len(asked) :] for text in way.question.read),
        "calibration prompt": way.calibrations[0].asked if way.calibrations else None,
    }


def text_tokenizer_problems(task: Task, tokenizer: PreTrainedTokenizerBase, kind: Kind) -> Iterator[str]:
    """Yield what goes wrong where text forms meet a tokenizer: their golden renderings, or any text, are encoded."""
    for name, template in task.templates.items():
        if template.text is None:
            continue
        settings = PromptSettings(template=name, truncate="error")
        try:
            encoder = TextEncoder(task, tokenizer, kind, settings)
        except ShoestringError as error:
            yield _placed(task, name, error)
            continue
        for example in _examples(task, name):
            try:
                encoder.encode(example)
            except TemplateError as error:
                if example.sentences[0] != _STAND_IN:  # A template may well ask for more than any text.
                    yield _placed(task, name, error)
            except ShoestringError as error:
                yield _placed(task, name, error)


def _examples(task: Task, name: str) -> list[Example]:
    default = next(iter(task.templates), "")
    found = [
        golden_example(task, golden, f"golden {number}")
        for number, golden in enumerate(task.golden, start=1)
        if (golden.template or default) == name and len(golden.sentences) == len(task.sentences)
    ]
    if found or not task.labels:
        return found
    return [Example("of a text", (_STAND_IN,) * len(task.sentences), task.label_names[0])]


def _placed(task: Task, name: str, error: ShoestringError) -> str:
    text = str(error)
    return text if text.startswith("task ") else f"task {task.name}, template {name!r} (text): {text}"
