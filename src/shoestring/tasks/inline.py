"""A task without a task file: a csv, tsv, jsonl or json file, its columns, one template and the label words."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import Field

from shoestring.config import Settings, build
from shoestring.errors import ConfigError, Problem, suggest
from shoestring.tasks.source import TREES
from shoestring.tasks.spec import Format, Task

WHERE = "the task given on the command line"


class InlineSettings(Settings):
    """What a task on the command line is made of."""

    file: str
    """The csv, tsv, jsonl or json file of examples; csv and tsv name their columns in the first line."""
    text_columns: tuple[str, ...] = Field(min_length=1)
    """Columns of the texts: the first is `sent_0` in the template, the second `sent_1`."""
    label_column: str = "label"
    """Column of the label."""
    template: str
    """The template: with `*mask*` for a masked model, without it for a causal one (it ends where the answer begins)."""
    label_words: str
    """`negative=terrible,positive=great`; or `terrible,great` where the file numbers its labels 0, 1, ..."""
    answer: str | None = None
    """How the label word continues a causal template: ` {word}`, or `{word}` after a line break, unless given."""
    name: str | None = None
    """Name of the task: the file's, unless given."""
    metrics: tuple[str, ...] = ("accuracy",)
    """The first is the main one."""
    max_tokens: int = 128
    """Longest whole input, special tokens included."""


def inline_task(settings: InlineSettings) -> Task:
    """Return the task that `settings` describe; label ids follow the order of the label words.

    Raises:
        ConfigError: if the file's kind, the label words, the columns or the metrics are wrong; lists every problem.
    """
    path = Path(settings.file)
    labels, problems = parse_label_words(settings.label_words)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in get_args(Format):
        problems.append(Problem("file", f"{path.name!r} is of an unknown kind{suggest(kind, get_args(Format))}"))
    if settings.label_column in settings.text_columns:
        problems.append(Problem("label_column", f"{settings.label_column!r} is one of the text columns"))
    if problems:
        raise ConfigError(WHERE, problems)
    table = {
        "name": settings.name or path.stem,
        "sentences": settings.text_columns,
        "labels": [{"name": label, "word": word} for label, word in labels.items()],
        "metrics": settings.metrics,
        "templates": {"inline": _template(settings)},
        "limits": {"max_tokens": settings.max_tokens},
        "sources": {
            "files": {
                "folder": path.parent.as_posix(),
                "format": kind,
                "header": kind not in TREES,
                "sentences": settings.text_columns,
                "label": settings.label_column,
                "files": {"train": path.name},
            }
        },
    }
    return build(Task, table, WHERE)


def parse_label_words(text: str) -> tuple[dict[str, str], list[Problem]]:
    """Return label name -> label word in order, and what is wrong with `text`.

    >>> parse_label_words("negative=terrible,positive=great")
    ({'negative': 'terrible', 'positive': 'great'}, [])
    >>> parse_label_words("terrible,great")
    ({'0': 'terrible', '1': 'great'}, [])
    """
    parts = [part.strip() for part in text.split(",")]
    named = [("=" in part) for part in parts]
    if any(named) and not all(named):
        return {}, [
            Problem("label_words", f"{parts[named.index(False)]!r} has no label; write label=word for every one")
        ]
    pairs = [part.split("=", 1) if "=" in part else [str(place), part] for place, part in enumerate(parts)]
    words = {label.strip(): word.strip() for label, word in pairs}
    problems = [Problem("label_words", f"a label or a word is empty in {text!r}")] if not _full(words) else []
    if len(words) < len(pairs):
        problems.append(Problem("label_words", f"a label stands twice in {text!r}"))
    if len(pairs) < 2:
        problems.append(Problem("label_words", f"{text!r} is one label; a task needs two or more"))
    return words, problems


def _full(words: dict[str, str]) -> bool:
    return all(words) and all(words.values())


def _template(settings: InlineSettings) -> dict[str, str]:
    if "*mask*" in settings.template:
        return {"masked": settings.template}
    answer = settings.answer or ("{word}" if settings.template.endswith("\n") else " {word}")
    return {"causal": settings.template, "answer": answer}
