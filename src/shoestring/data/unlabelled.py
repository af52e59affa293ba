"""Texts without answers, to be labelled: from a file, or from lines of text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.data.example import Example
from shoestring.data.files import csv_rows
from shoestring.data.json_text import parsed
from shoestring.data.place import Place
from shoestring.data.text import BOM, read_text
from shoestring.errors import DataError, suggest
from shoestring.tasks.problems import repeated

if TYPE_CHECKING:
    from shoestring.tasks.spec import Task

FORMATS = ("csv", "tsv", "jsonl", "json", "txt")
CANDIDATES = "candidates"
_UNKNOWN = "?"
"""Stands for the right answer, which nobody knows."""


@dataclass(frozen=True)
class Unlabelled:
    """Rows to be labelled.

    Attributes:
        columns: the names of the rows' fields, in the order of the file.
        rows: each row as it was read.
        examples: each row as an example of the task; its label means nothing.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    examples: tuple[Example, ...]


def read_unlabelled(task: Task, path: Path, columns: Sequence[str] = ()) -> Unlabelled:
    """Read a csv, tsv, jsonl, json or txt file of rows that bring the task's texts and no answers.

    csv and tsv name their columns in the first line; json is a list of records; txt has one text a line, for tasks of
    one text, or tab-separated ones. Rows of a multiple-choice task bring a list, `candidates`. Other columns are kept.

    Args:
        task: whose texts they are.
        path: the file.
        columns: the column of each of the task's texts; by default they have the same names.

    Raises:
        DataError: if the file is missing, empty or not of its format, a column is missing, a text is empty; names the
            line.
    """
    kind = path.suffix.lower().removeprefix(".")
    if path.is_dir():
        raise DataError(str(path), "is a folder, where a file is meant")
    if kind not in FORMATS:
        raise DataError(str(path), f"is not of a known format{suggest(kind, FORMATS)}")
    return _unlabelled(task, str(path), read_text(path).removeprefix(BOM), kind, columns)


def unlabelled_lines(task: Task, text: str, columns: Sequence[str] = (), where: str = "standard input") -> Unlabelled:
    """Read rows from a text: JSON objects, one a line, where the first line begins with `{`; else as a txt file.

    Raises:
        DataError: as `read_unlabelled`.
    """
    text = text.removeprefix(BOM)
    if not text.strip():
        raise DataError(where, "is empty")
    kind = "jsonl" if text.lstrip().startswith("{") else "txt"
    return _unlabelled(task, where, text, kind, columns)


def unlabelled_rows(task: Task, rows: Iterable[dict[str, Any] | str], columns: Sequence[str] = ()) -> Unlabelled:
    """Take rows from Python: dicts, or plain texts for tasks of one text.

    Raises:
        DataError: as `read_unlabelled`.
    """
    found = ((number, _of_texts(task, [row], Place("rows", number)) if isinstance(row, str) else dict(row))
             for number, row in enumerate(rows, start=1))  # fmt: skip
    return _made(task, "rows", found, columns)


def _unlabelled(task: Task, where: str, text: str, kind: str, columns: Sequence[str]) -> Unlabelled:
    if columns and kind == "txt":
        raise DataError(where, f"lines of text have no columns, so none is called {columns[0]!r}; use csv or jsonl")
    return _made(task, where, _READERS[kind](task, where, text), columns, header=kind in ("csv", "tsv"))


def _made(
    task: Task, where: str, found: Iterable[tuple[int, dict[str, Any]]], columns: Sequence[str], *, header: bool = False
) -> Unlabelled:
    if columns and len(columns) != len(task.sentences):
        raise DataError(
            where,
            f"task {task.name} has {len(task.sentences)} texts ({', '.join(task.sentences)}), "
            f"but {len(columns)} columns are named: {', '.join(columns)}",
        )
    named = tuple(columns) or task.sentences
    rows, examples = list[dict[str, Any]](), list[Example]()
    for line, row in found:
        _refuse_lacking(task, row, named, Place(where, 1 if header else line))
        examples.append(_example(task, row, named, len(rows), Place(where, line)))
        rows.append(row)
    if not rows:
        raise DataError(where, "holds no rows")
    return Unlabelled(tuple(dict.fromkeys(name for row in rows for name in row)), tuple(rows), tuple(examples))


def _csv(_: Task, where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return _with_header(where, csv_rows(Path(where), text))


def _tsv(_: Task, where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = (line.rstrip("\r\n").split("\t") for line in io.StringIO(text))
    return _with_header(where, enumerate(lines, start=1))


def _with_header(where: str, lines: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    _, header = next(lines)
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(where, f"the column {twice!r} stands twice", 1)
    for line, cells in lines:
        if len(cells) != len(header):
            raise DataError(where, f"the row has {len(cells)} columns, the header has {len(header)}", line)
        yield line, dict(zip(header, cells, strict=True))


def _jsonl(_: Task, where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, one in enumerate(io.StringIO(text), start=1):
        if one.strip():
            yield line, _record(where, one, line)


def _json(_: Task, where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    found = parsed(where, text)
    if not isinstance(found, list):
        raise DataError(where, "is no list of records")
    for number, one in enumerate(found, start=1):
        if not isinstance(one, dict):
            raise DataError(where, f"record {number} is {json.dumps(one)[:40]}, not an object with named fields")
        yield number, one


def _txt(task: Task, where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, one in enumerate(io.StringIO(text), start=1):
        if one.strip():
            several = len(task.sentences) > 1
            parts = one.rstrip("\r\n").split("\t") if several else [one.rstrip("\r\n")]
            yield line, _of_texts(task, parts, Place(where, line))


_READERS = {"csv": _csv, "tsv": _tsv, "jsonl": _jsonl, "json": _json, "txt": _txt}


def _record(where: str, text: str, line: int) -> dict[str, Any]:
    found = parsed(where, text, line)
    if not isinstance(found, dict):
        raise DataError(where, "is not an object with named fields", line)
    return found


def _of_texts(task: Task, texts: Sequence[str], place: Place) -> dict[str, Any]:
    if task.labels == () and task.range is None and not _writes(task):
        raise place.error(f"task {task.name} asks about candidates of each row; give rows with a list {CANDIDATES!r}")
    if len(texts) != len(task.sentences):
        names = ", ".join(task.sentences)
        raise place.error(
            f"has {len(texts)} texts; task {task.name} has {len(task.sentences)} ({names}), tab-separated"
        )
    return dict(zip(task.sentences, texts, strict=True))


def _writes(task: Task) -> bool:
    return not task.has_scores


def _example(task: Task, row: dict[str, Any], columns: Sequence[str], number: int, place: Place) -> Example:
    uid = f"new:{number}"
    texts = tuple(_text(row, column, name, place) for column, name in zip(columns, task.sentences, strict=True))
    if task.range is not None:
        return Example(uid, texts, task.range.low)
    if task.labels:
        return Example(uid, texts, task.label_names[0])
    if _writes(task):
        return Example(uid, texts, _UNKNOWN, golds=(_UNKNOWN,))
    candidates = _candidates(row.get(CANDIDATES), place)
    return Example(uid, texts, candidates[0], candidates, candidates[:1])


def _candidates(given: Any, place: Place) -> tuple[str, ...]:
    wanted = "it should be a list of different texts, as json and jsonl have"
    if given is None:
        raise place.error(f"{CANDIDATES!r} is missing; {wanted}")
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        raise place.error(f"{CANDIDATES!r} is {json.dumps(given)[:60]}; {wanted}")
    if twice := repeated("candidate", given):
        raise place.error("; ".join(twice))
    return tuple(given)


def _refuse_lacking(task: Task, row: dict[str, Any], columns: Sequence[str], place: Place) -> None:
    for column, name in zip(columns, task.sentences, strict=True):
        if column not in row:
            what = f"the text {name!r}" if column == name else f"the column {column!r}, for the text {name!r},"
            raise place.error(
                f"{what} is missing{suggest(column, list(row))}; --text-columns says which columns hold texts"
            )


def _text(row: dict[str, Any], column: str, name: str, place: Place) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise place.error(f"{column!r} is {json.dumps(value)[:40]}, not a text")
    if not value.strip():
        raise place.error(f"the text {name!r} is empty")
    return value
