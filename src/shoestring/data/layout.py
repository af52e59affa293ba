"""How to read one file of a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from shoestring.config import build
from shoestring.errors import ConfigError, DataError, suggest
from shoestring.tasks.source import TREES
from shoestring.tasks.spec import TRAIN, FileSource, Format, Task

if TYPE_CHECKING:
    from pathlib import Path

    from shoestring.data.settings import DataSettings


def file_layout(task: Task, settings: DataSettings, path: Path) -> FileSource:
    """Return how to read one file: with the columns the settings name, else as the task file says, else by field names.

    Of a task without labels, `label_column` is the column of the right answers; where the candidates are is what the
    task file says.

    Raises:
        DataError: if the file's ending is not of a known format, or it cannot hold the task's columns.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in get_args(Format):
        raise DataError(str(path), f"is of an unknown kind {path.suffix!r}{suggest(kind, get_args(Format))}")
    files = task.sources.files
    unnamed = settings.text_columns is None and settings.label_column is None
    if unnamed and files is not None and files.format == kind:
        return files
    columns = settings.text_columns or _names_of(files.sentences if files else ()) or task.sentences
    if len(columns) != len(task.sentences):
        raise DataError(str(path), f"{len(columns)} text columns for the {len(task.sentences)} texts of {task.name}")
    table: dict[str, Any] = {"folder": "", "format": kind, "files": {TRAIN: path.name}, "sentences": columns}
    table |= {"header": kind not in TREES, **_answers(task, settings, path)}
    if files is not None and files.format == kind:
        table |= {"labels": files.labels, "skip_labels": files.skip_labels}
    if files is not None and files.format == kind and files.is_tree:
        table |= {"each": files.each, "derive": files.derive, "allow_empty": files.allow_empty}
    try:
        return build(FileSource, table, str(path))
    except ConfigError as error:
        raise DataError(str(path), "; ".join(problem.what for problem in error.problems)) from None


def _answers(task: Task, settings: DataSettings, path: Path) -> dict[str, Any]:
    """Return the columns of the answers: what the settings name, else those of the task's own files."""
    files = task.sources.files
    if task.labels:
        own = files.label if files is not None and isinstance(files.label, str) else "label"
        return {"label": settings.label_column or own}
    if task.kind == "generation":
        own = files.golds if files is not None and isinstance(files.golds, str) else "answer"
        return {"golds": settings.label_column or own}
    if files is None:
        raise DataError(f"task {task.name}", f"does not say where in {path.name} the candidates are: [sources.files]")
    answers = {"candidates": files.candidates, "golds": files.golds, "label": files.label, "labels": files.labels}
    if settings.label_column is not None:
        answers["label" if files.golds is None else "golds"] = settings.label_column
    return answers


def _names_of(columns: tuple[int | str, ...]) -> tuple[str, ...]:
    names = tuple(column for column in columns if isinstance(column, str))
    return names if len(names) == len(columns) else ()
