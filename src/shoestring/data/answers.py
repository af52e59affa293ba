"""The answers of a row: its label, or its candidates and which of them are right, or all right answers as texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoestring.data.example import Example
from shoestring.data.table import read_label
from shoestring.errors import suggest
from shoestring.tasks.problems import repeated

if TYPE_CHECKING:
    from shoestring.data.place import Place
    from shoestring.tasks.source import AnySource
    from shoestring.tasks.spec import Task

SHOWN = 40
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read, before its answers are understood.

    Attributes:
        uid: the example's uid.
        texts: its texts.
        label: what stands in the label's column, as text.
        candidates: what stands in the columns, or the one field, of the candidates.
        golds: what stands in the field of right answers: a text, or a list of texts.
    """

    uid: str
    texts: tuple[str, ...]
    label: str | None = None
    candidates: Any = None
    golds: Any = None


def to_example(task: Task, source: AnySource, row: Row, place: Place) -> Example:
    """Return a row as an example of the task.

    Raises:
        DataError: if the label is none of the task's, candidates are missing, empty, repeated or not text, a right
            answer is missing, empty or none of the candidates.
    """
    if task.labels:
        return Example(row.uid, row.texts, read_label(task, _name(task, source, row, place), place))
    if source.candidates is None:
        golds = _texts("right answer", row.golds, place, allow_empty=source.allow_empty)
        return Example(row.uid, row.texts, golds[0], golds=golds)
    candidates = _texts("candidate", row.candidates, place)
    if twice := repeated("candidate", candidates):
        raise place.error("; ".join(twice))
    if source.golds is None:
        golds = (candidates[_number(source, row, candidates, place)],)
    else:
        golds = _texts("right answer", row.golds, place)
    for gold in golds:
        if gold not in candidates:
            raise place.error(f"the right answer {gold!r} is none of the candidates{suggest(gold, candidates)}")
    return Example(row.uid, row.texts, golds[0], candidates, golds)


def _name(task: Task, source: AnySource, row: Row, place: Place) -> str:
    """Return the task's name of the row's label: by the source's table, where it has one."""
    given = row.label or ""
    if not source.labels:
        return given
    if given not in source.labels:
        raise place.error(f"{given!r} is not a label of {task.name} there{suggest(given, source.labels)}")
    return source.labels[given]


def _number(source: AnySource, row: Row, candidates: Sequence[str], place: Place) -> int:
    """Return the number of the candidate that the row's label names, or counts, or is."""
    given = row.label or ""
    name = source.labels.get(given, given)
    if not isinstance(source.candidates, str):
        names = [str(column) for column in source.candidates or ()]
        if name not in names or (source.labels and given not in source.labels):
            known = source.labels or names
            raise place.error(f"the label {given!r} is no column of a candidate{suggest(given, known)}")
        return names.index(name)
    if name.isdecimal() and int(name) < len(candidates):
        return int(name)
    if name in candidates:
        return candidates.index(name)
    raise place.error(
        f"the label {given!r} is no candidate, nor the number of one: there are {len(candidates)}, counted from 0"
    )


def _texts(what: str, given: Any, place: Place, *, allow_empty: bool = False) -> tuple[str, ...]:
    """Return what stands in a field as a tuple of texts."""
    texts: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    if not texts:
        raise place.error(f"there is no {what}: the list is empty")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise place.error(f"{what} {number + 1} is not text but {json.dumps(text, default=str)[:SHOWN]}")
        if not text.strip() and not allow_empty:
            raise place.error(f"{what} {number + 1} is empty")
    return tuple(texts)
