"""Tasks without a task file: a csv, tsv, jsonl or json file, its columns, and one template, which may be a usual one.

Of two sorts: texts with labels and their label words, and texts with answers that are texts as well, to be written or
to be chosen among candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from jinja2 import TemplateSyntaxError, meta
from pydantic import Field

from shoestring.config import Settings, build
from shoestring.errors import ConfigError, Problem, suggest
from shoestring.tasks.jinja import environment, is_template
from shoestring.tasks.source import TREES
from shoestring.tasks.spec import Format, Task

WHERE = "the task given on the command line"
_SHORT, _LONG = 128, 2048
_NAME = "inline"
# Words of the template language, and what answers are called in it: no names for texts.
_RESERVED = frozenset(
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"],
).union(["candidate", "range", "dict"])


class OwnFile(Settings):
    """What every task on the command line is made of."""

    file: str
    """The csv, tsv, jsonl or json file of examples."""
    header: bool = True
    """Whether csv and tsv name their columns in the first line. If not, columns are numbers, counted from 0; from the
    end where they are negative."""
    answer: str | None = None
    """How an answer continues the prompt: `{word}` in LM-BFF's language, `{{ candidate }}` in Jinja. Behind a space,
    or behind nothing after a line break, unless given."""
    name: str | None = None
    """Name of the task: the file's, unless given."""
    max_tokens: int | None = None
    """Longest whole input, special tokens included: 128 for templates in LM-BFF's language, 2,048 for Jinja, unless
    given."""


class InlineSettings(OwnFile):
    """What a task with labels on the command line is made of."""

    text_columns: tuple[str, ...] = Field(min_length=1)
    """Columns of the texts: the first is `sent_0` in LM-BFF's templates, the second `sent_1`; Jinja has `text_names`.
    """
    label_column: str = "label"
    """Column of the label."""
    template: str
    """The template. In LM-BFF's language with `*mask*` for a masked model, without it for a causal one (it ends where
    the answer begins); a text with `{{` is Jinja, for causal and sequence-to-sequence models."""
    label_words: str
    """`negative=terrible,positive=great`; or `terrible,great` where the file numbers its labels 0, 1, ..."""
    metrics: tuple[str, ...] = ("accuracy",)
    """The first is the main one."""


class TextSettings(OwnFile):
    """What a task with texts for answers on the command line is made of."""

    inputs: tuple[str, ...] = Field(min_length=1)
    """Columns of the texts; `text_names` says what templates call them."""
    outputs: str
    """Column of the right answer, or, in jsonl and json, of a list of right answers."""
    candidates: tuple[str, ...] = ()
    """Columns of the candidates to choose from, or, in jsonl and json, the one that lists them; none where the answer
    is to be written."""
    numbered: bool = False
    """Whether `outputs` holds the right candidate's number, counted from 0, or the name of its column, in place of its
    text."""
    template: str | None = None
    """The prompt, in Jinja. Unless given, every text behind its name on a line of its own, and what is asked for."""
    metrics: tuple[str, ...] = ()
    """The first is the main one. Unless given, accuracy where there are candidates; else the F1 of words, and exact
    match."""


def inline_task(settings: InlineSettings) -> Task:
    """Return the task with labels that `settings` describe; label ids follow the order of the label words.

    Raises:
        ConfigError: if the file's kind, the label words, the columns, the template or the metrics are wrong; lists
            every problem.
    """
    labels, problems = parse_label_words(settings.label_words)
    source = _Source(settings, problems)
    columns = source.columns("text_columns", settings.text_columns)
    label = source.column("label_column", settings.label_column)
    if label in columns:
        problems.append(Problem("label_column", f"{settings.label_column!r} is one of the text columns"))
    jinja = is_template(settings.template)
    names = text_names(settings.text_columns, counted=source.counted) if jinja else settings.text_columns
    problems += _jinja_problems(settings.template, names) if jinja else _star_problems(settings.template)
    if problems:
        raise ConfigError(WHERE, problems)
    table = {
        "name": source.name,
        "sentences": names,
        "labels": [{"name": name, "word": word} for name, word in labels.items()],
        "metrics": settings.metrics,
        "templates": {_NAME: _text(settings, settings.template) if jinja else _stars(settings)},
        "limits": {"max_tokens": settings.max_tokens or (_LONG if jinja else _SHORT)},
        "sources": source.table(sentences=columns, label=label),
    }
    return build(Task, table, WHERE)


def text_task(settings: TextSettings) -> Task:
    """Return the generation task that `settings` describe, or the multiple-choice one, where candidates are named.

    Raises:
        ConfigError: if the file's kind, the columns, the template or the metrics are wrong; lists every problem.
    """
    problems: list[Problem] = []
    source = _Source(settings, problems)
    columns = source.columns("inputs", settings.inputs)
    right = source.column("outputs", settings.outputs)
    answers: dict[str, Any] = {"label" if settings.numbered else "golds": right}
    if settings.candidates:
        answers |= _candidates(settings, source)
    others = settings.candidates
    if settings.outputs in settings.inputs:
        problems.append(Problem("outputs", f"{settings.outputs!r} is one of the inputs"))
    problems += [Problem("candidates", f"{name!r} is one of the inputs") for name in others if name in settings.inputs]
    if settings.outputs in others:
        problems.append(Problem("candidates", f"{settings.outputs!r} is the column of the right answer"))
    names = text_names(settings.inputs, counted=source.counted)
    if settings.template is not None:
        problems += _jinja_problems(settings.template, names)
    if problems:
        raise ConfigError(WHERE, problems)
    usual = ("accuracy",) if others else ("token-f1", "exact-match")
    table = {
        "name": source.name,
        "kind": "multiple-choice" if others else "generation",
        "sentences": names,
        "metrics": settings.metrics or usual,
        "templates": {_NAME: _text(settings, settings.template or _asked(settings, names), ends=not others)},
        "limits": {"max_tokens": settings.max_tokens or _LONG},
        "sources": source.table(sentences=columns, **answers),
    }
    return build(Task, table, WHERE)


def text_names(columns: Sequence[str], *, counted: bool = False) -> tuple[str, ...]:
    """Return what Jinja templates call the texts of columns.

    A column's own name, with `_` for what no name holds. One without such a name is `input`; of several columns, it is
    `input_0`, `input_1`, ... by its place among them.

    >>> text_names(["question", "the context"])
    ('question', 'the_context')
    >>> text_names(["0", "1"], counted=True), text_names(["0"], counted=True)
    (('input_0', 'input_1'), ('input',))

    Args:
        columns: names, or numbers of columns.
        counted: whether they are numbers.
    """
    found: list[str] = []
    for place, column in enumerate(columns):
        name = "" if counted or is_template(column) else re.sub(r"\W+", "_", column).strip("_")
        if not name.isidentifier() or name in _RESERVED:
            name = "input" if len(columns) == 1 else f"input_{place}"
        found.append(name)
    return tuple(found)


def parse_label_words(text: str, *, fewest: int = 2) -> tuple[dict[str, str], list[Problem]]:
    """Return label name -> label word in order, and what is wrong with `text`.

    >>> parse_label_words("negative=terrible,positive=great")
    ({'negative': 'terrible', 'positive': 'great'}, [])
    >>> parse_label_words("terrible,great")
    ({'0': 'terrible', '1': 'great'}, [])

    Args:
        text: what was given.
        fewest: how many labels there must be: of a task, two; of changes to one, any number.
    """
    parts = [part.strip() for part in text.split(",")]
    named = [("=" in part) for part in parts]
    if any(named) and not all(named):
        return {}, [
            Problem("label_words", f"{parts[named.index(False)]!r} has no label; write label=word for every one")
        ]
    if not any(named) and all(label and word for label, _, word in (part.partition(":") for part in parts)):
        label, _, word = parts[0].partition(":")
        return {}, [Problem("label_words", f"{parts[0]!r} is read as one word; write {label.strip()}={word.strip()}")]
    pairs = [part.split("=", 1) if "=" in part else [str(place), part] for place, part in enumerate(parts)]
    words = {label.strip(): word.strip() for label, word in pairs}
    problems = [Problem("label_words", f"a label or a word is empty in {text!r}")] if not _full(words) else []
    if len(words) < len(pairs):
        problems.append(Problem("label_words", f"a label stands twice in {text!r}"))
    if len(pairs) < fewest:
        problems.append(Problem("label_words", f"{text!r} is one label; a task needs two or more"))
    return words, problems


def _full(words: dict[str, str]) -> bool:
    return all(words) and all(words.values())


class _Source:
    """The file and its columns; what is wrong with them is added to `problems`."""

    def __init__(self, settings: OwnFile, problems: list[Problem]) -> None:
        self.path, self.problems = Path(settings.file), problems
        self.format = self.path.suffix.removeprefix(".").lower()
        self.name = settings.name or self.path.stem
        self.counted = not settings.header and self.format not in TREES
        if self.format not in get_args(Format):
            what = f"{self.path.name!r} is of an unknown kind{suggest(self.format, get_args(Format))}"
            problems.append(Problem("file", what))

    def columns(self, where: str, names: Iterable[str]) -> tuple[str | int, ...]:
        """Return columns by name, or by number where the file does not name them."""
        return tuple(self.column(where, name) for name in names)

    def column(self, where: str, name: str) -> str | int:
        """Return one column."""
        if not self.counted:
            return name
        if re.fullmatch(r"-?\d+", name):
            return int(name)
        self.problems.append(Problem(where, f"{name!r} is no number: without a first line of names, columns are"))
        return name

    def table(self, **columns: Any) -> dict[str, Any]:
        """Return the task's `sources`."""
        files = {"folder": self.path.parent.as_posix(), "format": self.format, "files": {"train": self.path.name}}
        return {"files": {**files, "header": self.format not in TREES and not self.counted, **columns}}


def _candidates(settings: TextSettings, source: _Source) -> dict[str, Any]:
    columns = source.columns("candidates", settings.candidates)
    if len(columns) == 1:
        return {"candidates": columns[0] if source.format in TREES else columns}
    if not settings.numbered:
        return {"candidates": columns}
    by_number = {str(place): str(column) for place, column in enumerate(columns)}
    by_name = {} if source.counted else {str(column): str(column) for column in columns}
    # Columns that are called 1, 2, ... are meant by these names: counted from 0, 1 would be the second of them.
    return {"candidates": columns, "labels": by_name if by_name.keys() & by_number else by_name | by_number}


def _asked(settings: TextSettings, names: Sequence[str]) -> str:
    """Return the usual prompt: the texts behind their names, and the name of what is asked for."""
    plain = settings.outputs.isidentifier() and settings.outputs not in _RESERVED
    last = "answer" if settings.candidates else (settings.outputs if plain else "output")
    lines = [f"{_titled(name)}: {{{{ {name} }}}}" for name in names]
    return "\n".join([*lines, f"{_titled(last)}:"])


def _titled(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(settings: OwnFile, prompt: str, *, ends: bool = False) -> dict[str, Any]:
    """Return a template's text form; the line break that `ends` a written answer is where the model stops."""
    before = "" if prompt.endswith("\n") else " "
    return {"text": {"prompt": prompt, "answer": settings.answer or f"{before}{{{{ candidate }}}}{chr(10) * ends}"}}


def _stars(settings: InlineSettings) -> dict[str, str]:
    if "*mask*" in settings.template:
        return {"masked": settings.template}
    answer = settings.answer or ("{word}" if settings.template.endswith("\n") else " {word}")
    return {"causal": settings.template, "answer": answer}


def _star_problems(template: str) -> Iterator[Problem]:
    if not re.search(r"\*\+?sent[lu]?-?_\d", template):
        shown = "write *sent_0* where the first one stands, or the name of its column in double braces: {{ name }}"
        yield Problem("template", f"{template!r} shows no text; {shown}")


def _jinja_problems(template: str, names: Sequence[str]) -> Iterator[Problem]:
    """Yield why a template cannot be the prompt, or does not show every text."""
    called = ", ".join(f"{{{{ {name} }}}}" for name in names)
    if not is_template(template):
        yield Problem("template", f"{template!r} shows no text; where answers are texts, write it in Jinja: {called}")
        return
    try:
        used = meta.find_undeclared_variables(environment().parse(template))
    except TemplateSyntaxError as error:
        yield Problem("template", f"{template!r} is not Jinja: {error.message}; the texts are {called}")
        return
    odd = sorted(used - {*names, *environment().globals, "candidate"})
    if odd:
        yield Problem("template", f"there is no text {odd[0]!r}{suggest(odd[0], names)}")
    elif lacking := [name for name in names if name not in used]:
        yield Problem("template", f"{template!r} never shows {', '.join(lacking)}; the texts are {called}")
