"""A user's own data on the command line: to parts of a config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from shoestring.cli.first_row import FirstRow, first_row
from shoestring.cli.options import names, refuse_both
from shoestring.errors import DataError

_KEYS = {
    "data": "data.source",
    "text_columns": "data.text_columns",
    "label_column": "data.label_column",
    "inputs": "data.text_columns",
    "outputs": "data.label_column",
    "template": "prompt.template",
    "label_words": "prompt.label_words",
}
_OF_LABELS, _OF_TEXTS = ("text_columns", "label_column", "label_words"), ("inputs", "outputs", "candidates")
_NUMBER = re.compile(r"-?\d+")
# Commas inside of {{ ... }} part nothing.
_COMMA = re.compile(r",(?![^{]*\}\})")


@dataclass(frozen=True)
class OwnData:
    """The options of own data, as they were given.

    `--text-columns`, `--label-column` and `--label-words` describe a task with labels; `--inputs`, `--outputs` and
    `--candidates` one whose answers are texts; `--data` and `--template` either.
    """

    data: str | None = None
    text_columns: str | None = None
    label_column: str | None = None
    template: str | None = None
    label_words: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    candidates: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given, as the user writes them."""
        return [_option(field.name) for field in fields(self) if getattr(self, field.name) is not None]

    def table(self, *, task: bool, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Return the parts of a config that the options stand for.

        With a task from elsewhere (a recipe, a name), they change its data and its prompt, however many are given.
        Without one they have to make a task, for which more than one is needed.

        Args:
            task: whether the task is known from elsewhere.
            overrides: what the command line sets beside.

        Raises:
            typer.BadParameter: if they contradict each other, if they have to make a task and cannot, or `overrides`
                set parts of the task they make, or say the same as an option.
            ConfigError: if the task they make is wrong.
        """
        for name, key in _KEYS.items():
            refuse_both(_option(name), getattr(self, name), key, overrides)
        self._refuse_both_sorts()
        if task:
            return self._changes()
        self._refuse_lacking()
        if not self.given:
            return {}
        if self.data and Path(self.data).is_dir():
            raise typer.BadParameter(f"--data {self.data} is a folder; a task of your own is made of one file in it")
        if parts := [text for text in overrides if text.startswith("task.")]:
            raise typer.BadParameter(f"{parts[0]} cannot change a task of your own; use prompt.* or a task file")
        return {"task": self._task(), "data": {"source": self.data}}

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let errors about data name the options that were given, not the keys that they stand for."""
        try:
            yield
        except DataError as error:
            text = str(error)
            for name, key in _KEYS.items():
                if getattr(self, name) is not None:
                    text = text.replace(key, _option(name))
            error.args = (text,)
            raise

    def _changes(self) -> dict[str, Any]:
        """Return what the options change of a task from elsewhere."""
        if self.candidates is not None:
            raise typer.BadParameter("--candidates makes a task of your own; a task that is named says itself where")
        columns = self.text_columns or self.inputs
        sections: dict[str, dict[str, Any]] = {
            "data": {
                "source": self.data,
                "text_columns": None if columns is None else names(columns),
                "label_column": self.label_column or self.outputs,
            },
            "prompt": {"template": self.template, "label_words": self._words()},
        }
        return {
            name: kept
            for name, section in sections.items()
            if (kept := {key: value for key, value in section.items() if value is not None})
        }

    def _task(self) -> Any:
        from shoestring.config import build
        from shoestring.tasks.inline import WHERE, InlineSettings, TextSettings, inline_task, text_task

        given = {"file": self.data, "template": self.template, "header": self._header}
        if not self._of_texts:
            given |= {"text_columns": _columns(self.text_columns), "label_words": self.label_words}
            given |= {} if self.label_column is None else {"label_column": self.label_column}
            return inline_task(build(InlineSettings, given, WHERE))
        given |= {"inputs": _columns(self.inputs), "outputs": self.outputs, "candidates": _columns(self.candidates)}
        return text_task(build(TextSettings, {**given, "numbered": self._numbered}, WHERE))

    def _words(self) -> dict[str, str] | None:
        if self.label_words is None:
            return None
        from shoestring.errors import ConfigError
        from shoestring.tasks.inline import parse_label_words

        words, problems = parse_label_words(self.label_words, fewest=1)
        if problems:
            raise ConfigError("command line", problems)
        return words

    @property
    def _of_texts(self) -> bool:
        return any(getattr(self, name) is not None for name in _OF_TEXTS)

    def _refuse_both_sorts(self) -> None:
        sorts = [[name for name in some if getattr(self, name) is not None] for some in (_OF_LABELS, _OF_TEXTS)]
        if all(sorts):
            one, other = (_option(some[0]) for some in sorts)
            raise typer.BadParameter(
                f"{one} and {other} are for different tasks: --text-columns, --label-column and --label-words for "
                "labels, --inputs, --outputs and --candidates for answers that are texts"
            )

    def _refuse_lacking(self) -> None:
        if not self.given:
            return
        own = ("inputs", "outputs") if self._of_texts else ("text_columns", "template", "label_words")
        missing = [_option(name) for name in ("data", *own) if getattr(self, name) is None]
        if not missing:
            return
        known = first_row(Path(self.data or "")).names
        hint = f"; the columns of {self.data} are: {', '.join(known)}" if known else ""
        sort = "" if self._of_texts or set(self.given) - {"--data", "--template"} else _OTHER_SORT
        raise typer.BadParameter(f"a task of your own also needs {', '.join(missing)}{sort}{hint}")

    @cached_property
    def _header(self) -> bool:
        """Whether the file names its columns: not where all are called by number, unless these are their names."""
        path = Path(self.data or "")
        if path.suffix.lower() not in (".csv", ".tsv"):
            return True
        given = [self.text_columns, self.label_column, self.inputs, self.outputs, self.candidates]
        called = [name for text in given for name in _columns(text)]
        known = first_row(path).names
        numbers = [name for name in called if _NUMBER.fullmatch(name)]
        named = [name for name in called if name not in numbers]
        if set(numbers if named else called) <= set(known):
            return True
        if numbers and named:
            what = "a file whose columns have no names calls them all by number, counted from 0"
            raise typer.BadParameter(f"{numbers[0]} is a number and {named[0]} a name of a column; {what}")
        return not numbers

    @cached_property
    def _numbered(self) -> bool:
        """Whether the column of the right answer says which candidate is right, in the first row, and not what."""
        if self.candidates is None or self.outputs is None:
            return False
        columns = _columns(self.candidates)
        row: FirstRow = first_row(Path(self.data or ""), header=self._header)
        listed = row[columns[0]] if len(columns) == 1 else None
        texts = listed if isinstance(listed, list) else [row[column] for column in columns]
        right = row[self.outputs]
        if isinstance(right, str) and right not in texts:
            return right.isdecimal() or right in columns
        return isinstance(right, int)


_OTHER_SORT = "; or, for answers that are texts, --inputs and --outputs"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _columns(text: str | None) -> tuple[str, ...]:
    """Return the columns in `a,b`; a comma within `{{ ... }}` parts nothing."""
    return tuple(part.strip() for part in _COMMA.split(text or "") if part.strip())
