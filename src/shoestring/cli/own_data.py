"""A user's own data on the command line: to parts of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer

from shoestring.cli.options import names, refuse_both

_KEYS = {
    "data": "data.source",
    "text_columns": "data.text_columns",
    "label_column": "data.label_column",
    "template": "prompt.template",
    "label_words": "prompt.label_words",
}


@dataclass(frozen=True)
class OwnData:
    """The options `--data`, `--text-columns`, `--label-column`, `--template`, `--label-words`."""

    data: str | None
    text_columns: str | None
    label_column: str | None
    template: str | None
    label_words: str | None

    @property
    def given(self) -> list[str]:
        """The options that were given, as the user writes them."""
        return [f"--{field.name.replace('_', '-')}" for field in fields(self) if getattr(self, field.name) is not None]

    def table(self, *, task: bool, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Return the parts of a config that the options stand for.

        With a task from elsewhere (a recipe, a name), they change its data and its prompt, however many are given.
        Without one they have to make a task, for which all but the label's column are needed.

        Args:
            task: whether the task is known from elsewhere.
            overrides: what the command line sets beside.

        Raises:
            typer.BadParameter: if they have to make a task and cannot, or `overrides` set parts of the task they make,
                or say the same as an option.
            ConfigError: if the task they make is wrong.
        """
        for name, key in _KEYS.items():
            refuse_both(f"--{name.replace('_', '-')}", getattr(self, name), key, overrides)
        if not task and all((self.data, self.text_columns, self.template, self.label_words)):
            if parts := [text for text in overrides if text.startswith("task.")]:
                raise typer.BadParameter(f"{parts[0]} cannot change a task of your own; use prompt.* or a task file")
            return {"task": self._task(), "data": {"source": self.data}}
        if not task:
            self._refuse()
        columns = names(self.text_columns) if self.text_columns else None
        sections: dict[str, dict[str, Any]] = {
            "data": {"source": self.data, "text_columns": columns, "label_column": self.label_column},
            "prompt": {"template": self.template, "label_words": self._words()},
        }
        return {
            name: kept
            for name, section in sections.items()
            if (kept := {key: value for key, value in section.items() if value is not None})
        }

    def _task(self) -> Any:
        from shoestring.config import build
        from shoestring.tasks.inline import WHERE, InlineSettings, inline_task

        given = {
            "file": self.data,
            "text_columns": names(self.text_columns or ""),
            "template": self.template,
            "label_words": self.label_words,
        }
        if self.label_column is not None:
            given["label_column"] = self.label_column
        return inline_task(build(InlineSettings, given, WHERE))

    def _words(self) -> dict[str, str] | None:
        if self.label_words is None:
            return None
        from shoestring.errors import ConfigError
        from shoestring.tasks.inline import parse_label_words

        words, problems = parse_label_words(self.label_words)
        if problems:
            raise ConfigError("command line", problems)
        return words

    def _refuse(self) -> None:
        needed = ("--data", "--text-columns", "--template", "--label-words")
        missing = [option for option in needed if option not in self.given]
        if not self.given:
            return
        hint = f"; the columns of {self.data} are: {', '.join(there)}" if (there := self._columns()) else ""
        raise typer.BadParameter(f"a task of your own also needs {', '.join(missing)}{hint}")

    def _columns(self) -> list[str]:
        """Return the names in the first line of the file, as a help; nothing where it cannot be read."""
        import csv
        import json

        path = Path(self.data or "")
        try:
            with path.open(encoding="utf-8-sig") as file:
                line = file.readline()
            if path.suffix == ".jsonl":
                return list(json.loads(line))
            return next(csv.reader([line], delimiter="\t" if path.suffix == ".tsv" else ","))
        except (OSError, ValueError, StopIteration):
            return []
