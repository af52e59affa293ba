"""A task, as `shoestring tasks show` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shoestring.cli import screen
from shoestring.cli.paint import legend, spans

if TYPE_CHECKING:
    from rich.text import Text

    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Golden, Task, TextForm

WIDTH = 12


def print_task(task: Task) -> None:
    """Print a task: title, labels, templates with an example, limits, metrics, sources."""
    from rich.text import Text

    console = screen.out()
    kind = task.kind if task.range is None else f"{task.kind} from {task.range.low:g} to {task.range.high:g}"
    console.print(Text.assemble((task.name, "bold"), f"  {task.title}  ", (f"({kind}, version {task.version})", "dim")))
    _line("texts", Text(", ".join(f"sent_{place} is {name}" for place, name in enumerate(task.sentences))))
    _line("metrics", Text(", ".join(task.metrics)))
    _line("limits", Text(", ".join(_limits(task))))
    for number, label in enumerate(task.labels):
        title = f"  {label.title}" if label.title else ""
        _line("labels" if number == 0 else "", Text.assemble(f"{label.name} ", (label.word, "green"), (title, "dim")))
    for name in task.templates:
        console.print()
        console.print(
            Text.assemble(
                (f"template {name}", "bold"), ("" if name != next(iter(task.templates)) else "  (default)", "dim")
            )
        )
        for head, text in _template(task, name):
            _line(head, text)
    console.print()
    for head, text in _sources(task):
        _line(head, Text(text))
    console.print(legend())


def _line(head: str, text: Text) -> None:
    """Print a line of head and text; on a terminal, what does not fit goes on under the text."""
    from rich.table import Table
    from rich.text import Text

    console = screen.out()
    if not console.is_terminal:
        console.print(Text.assemble(f"  {head:<{WIDTH}}", text))
        return
    grid = Table.grid()
    grid.add_column(width=WIDTH + 2)
    grid.add_column(overflow="fold")
    grid.add_row(Text(f"  {head}", "dim"), text)
    console.print(grid)


def _limits(task: Task) -> Iterator[str]:
    limits = task.limits
    yield f"{limits.max_tokens} tokens"
    if limits.first_sentence_tokens is not None:
        yield f"{limits.first_sentence_tokens} of the first text"
    if limits.other_sentence_tokens is not None:
        yield f"{limits.other_sentence_tokens} of any other text"


def _template(task: Task, name: str) -> Iterator[tuple[str, Text]]:
    from rich.text import Text

    from shoestring.prompts.label_words import label_words
    from shoestring.prompts.rendering import template_pieces

    template = task.template(name)
    words = label_words(task, template)
    if template.label_words:
        yield "words", Text(", ".join(f"{label}: {word}" for label, word in template.label_words.items()))
    golden = next((one for one in task.golden if (one.template or next(iter(task.templates))) == name), None)
    forms: tuple[Form, ...] = ("masked", "causal")
    for form in forms:
        text = template.masked if form == "masked" else template.causal
        pieces = template_pieces(task, template, form, name)
        if text is None or pieces is None:
            continue
        answer = f"   then {template.answer!r}" if form == "causal" else ""
        yield form, Text.assemble(text.replace("\n", "⏎"), (answer, "dim"))
        if golden is not None:
            yield "", spans(pieces, golden.sentences, words.texts(form))
    if template.text is not None:
        yield from _text_form(template.text, golden)


def _text_form(form: TextForm, golden: Golden | None) -> Iterator[tuple[str, Text]]:
    from rich.text import Text

    parts = {"text": form.prompt, "answer": form.answer, "calibration": form.calibration}
    for head, part in parts.items():
        if part is not None:
            yield head, Text(part.strip("\n").replace("\n", "⏎"))
    if golden is not None and golden.text is not None:
        answers = ((answer.replace("\n", "⏎"), "green") for answer in golden.answers[:1])
        yield "", Text.assemble(golden.text.replace("\n", "⏎"), *answers)


def _sources(task: Task) -> Iterator[tuple[str, str]]:
    files, hub = task.sources.files, task.sources.hub
    if files is not None:
        yield "files", f"{files.folder}/: {', '.join(files.files.values())} ({files.format})"
    if hub is not None:
        config = f" {hub.config}" if hub.config else ""
        splits = ", ".join(f"{ours} from {theirs}" for ours, theirs in hub.splits.items())
        yield "hub", f"{hub.id}{config}: {splits}"
