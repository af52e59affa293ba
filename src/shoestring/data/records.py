"""Files of examples in records with named fields: jsonl, one JSON object a line, and json, one document.

Rows may be inside a record, in lists within lists (`each`); then a field is looked up in the row first, and in what it
is inside of after that.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from shoestring.data.answers import SHOWN, Row, to_example
from shoestring.data.computed import Compute, computed
from shoestring.data.json_lines import line_of
from shoestring.data.json_text import parsed
from shoestring.data.place import Place
from shoestring.data.table import Table, draw_key
from shoestring.data.text import BOM, read_text
from shoestring.errors import DataError, suggest
from shoestring.tasks.derived import DERIVED
from shoestring.tasks.jinja import is_template

if TYPE_CHECKING:
    from pathlib import Path

    from shoestring.data.example import Example
    from shoestring.tasks.source import FileSource
    from shoestring.tasks.spec import Task

EVERY = "*"
Keys = tuple[str | int, ...]


def read_records(task: Task, source: FileSource, path: Path, split: str) -> Table:
    """Read one split from one json or jsonl file; the uid of an example is `<split>:<0-based row>`.

    Raises:
        DataError: if the file is missing, empty, not UTF-8 or not JSON, or a row lacks a field, has a text, label or
            answer of no use to the task; names the line, and the place in it where a line holds several rows.
    """
    examples: list[Example] = []
    for record in _rows(source, path):
        record = record.derived(source.derive, split)
        if record is not None and not record.skipped(source):
            examples.append(_example(task, source, record, f"{split}:{len(examples)}"))
    if not examples:
        raise DataError(str(path), "holds no rows")
    return Table(str(path), tuple(draw_key(task, example.label) for example in examples), tuple(examples))


def follow(value: Any, names: Sequence[str]) -> Any:
    """Return the field of a field; of a list, that of each of its records.

    >>> follow({"answers": [{"text": "a"}, {"text": "b"}]}, ["answers", "text"])
    ['a', 'b']

    Raises:
        KeyError: if there is none.
    """
    for number, name in enumerate(names):
        if isinstance(value, list):
            return [follow(item, names[number:]) for item in cast("list[Any]", value)]
        if not isinstance(value, Mapping) or name not in value:
            raise KeyError(name)
        value = cast("Mapping[str, Any]", value)[name]
    return value


@dataclass(frozen=True)
class _File:
    """A file, or one line of it: knows where things in it are."""

    path: Path
    text: str
    line: int | None

    def place(self, keys: Keys) -> Place:
        line = self.line if self.line is not None else partial(line_of, self.text, keys)
        inside = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
        return Place(str(self.path), line, inside)


@dataclass(frozen=True)
class _Record:
    """A record and those that it is inside of, the innermost first, each with its place in the file."""

    file: _File
    chain: tuple[tuple[Mapping[str, Any], Keys], ...]

    @classmethod
    def of(cls, file: _File, value: Any, keys: Keys, outer: _Record | None = None) -> _Record:
        if not isinstance(value, dict):
            what = "it" if keys else "the row"
            raise file.place(keys).error(f"{what} is not a JSON object but {_shown(value)}")
        return cls(file, ((cast("dict[str, Any]", value), keys), *(outer.chain if outer is not None else ())))

    @property
    def place(self) -> Place:
        return self.file.place(self.chain[0][1])

    def find(self, name: str) -> tuple[Any, Keys]:
        """Return the field called `name`, which may be the field of a field, or computed, and its place in the file."""
        if is_template(name):
            fields, keys = ChainMap(*[cast("dict[str, Any]", found) for found, _ in self.chain]), self.chain[0][1]
            return _computed(name, str(self.file.path))(fields), keys
        first, *rest = name.split(".")
        for fields, keys in self.chain:
            if name in fields:
                return fields[name], (*keys, name)
            if first in fields:
                try:
                    return follow(fields[first], rest), (*keys, first, *rest)
                except KeyError:
                    break
        known = [name for fields, _ in self.chain for name in fields]
        raise self.place.error(f"there is no field {name!r}{suggest(name, known)}")

    def inner(self, each: Sequence[str]) -> Iterator[_Record]:
        """Yield the records that `each` leads to: those in a list in this one, then those in a list in each of them."""
        if not each:
            yield self
            return
        for value, keys in self._items(each[0]):
            yield from _Record.of(self.file, value, keys, self).inner(each[1:])

    def _items(self, name: str) -> list[tuple[Any, Keys]]:
        if name == EVERY:
            fields, keys = self.chain[0]
            return [(value, (*keys, key)) for key, value in fields.items()]
        # In this record alone: a list of one that it is inside of would be read once more for each of its rows.
        found, keys = replace(self, chain=self.chain[:1]).find(name)
        if not isinstance(found, list):
            raise self.place.error(f"the field {name!r} is not a list but {_shown(found)}")
        return [(value, (*keys, number)) for number, value in enumerate(cast("list[Any]", found))]

    def skipped(self, source: FileSource) -> bool:
        """Return whether the label is one whose rows are left out."""
        if not source.skip_labels:
            return False
        return _label(self.find(str(source.label))[0]) in source.skip_labels

    def derived(self, rule: str | None, split: str) -> _Record | None:
        """Return the record with the fields that a rule makes; None where the rule leaves it out."""
        if rule is None:
            return self
        try:
            more = DERIVED.get(rule)(ChainMap(*[cast("dict[str, Any]", fields) for fields, _ in self.chain]), split)
        except KeyError as error:
            raise self.place.error(f"there is no field {error.args[0]!r}, which derive={rule!r} needs") from None
        except (TypeError, IndexError, AttributeError, ValueError) as error:
            raise self.place.error(f"derive={rule!r} does not fit: {error}") from None
        return None if more is None else _Record(self.file, ((more, self.chain[0][1]), *self.chain))


def _rows(source: FileSource, path: Path) -> Iterator[_Record]:
    text = read_text(path).removeprefix(BOM)
    if source.format == "json":
        file = _File(path, text, None)
        root = parsed(str(path), text)
        tops = [(value, (number,)) for number, value in enumerate(root)] if isinstance(root, list) else [(root, ())]
        for value, keys in tops:
            yield from _Record.of(file, value, keys).inner(source.each)
        return
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        file = _File(path, line, number)
        if not line.strip():
            raise file.place(()).error("the row is empty")
        yield from _Record.of(file, parsed(str(path), line, number), ()).inner(source.each)


def _example(task: Task, source: FileSource, record: _Record, uid: str) -> Example:
    names = zip(source.sentences, task.sentences, strict=True)
    candidates: Any = None
    if isinstance(source.candidates, tuple):
        candidates = [record.find(str(name))[0] for name in source.candidates]
    elif source.candidates is not None:
        candidates = record.find(source.candidates)[0]
    row = Row(
        uid,
        tuple(_text(source, record, str(name), own) for name, own in names),
        label=None if source.label is None else _label(record.find(str(source.label))[0]),
        candidates=candidates,
        golds=None if source.golds is None else record.find(str(source.golds))[0],
    )
    return to_example(task, source, row, record.place)


def _text(source: FileSource, record: _Record, name: str, own: str) -> str:
    """Return the field called `name` in the file and `own` in the task, which is to be a text."""
    text = record.find(name)[0]
    if not isinstance(text, str):
        raise record.place.error(f"the field {name!r} is not text but {_shown(text)}")
    if not text.strip() and not source.allow_empty:
        raise record.place.error(f"the text {own!r} is empty")
    return text


@cache
def _computed(text: str, where: str) -> Compute:
    return computed(text, where)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Any) -> str:
    return json.dumps(value)[:SHOWN]
