"""A look at the beginning of a file of the user's own: the names of its columns, and its first row."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FirstRow:
    """The beginning of a file; nothing where it cannot be read, which whoever reads the file will say.

    Attributes:
        names: the columns' names, as far as the first line, or the first record, has them.
        cells: what stands in the first row, by name, and by number where lines have columns.
    """

    names: tuple[str, ...] = ()
    cells: Mapping[str, Any] | None = None

    def __getitem__(self, column: str) -> Any:
        """Return what stands in a column: a name, or `a.b` for the field of a field; None where nothing does."""
        value: Any = self.cells
        for name in (column,) if column in (self.cells or ()) else column.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value


def first_row(path: Path, *, header: bool = True) -> FirstRow:
    """Return the beginning of a csv, tsv, jsonl or json file.

    Args:
        path: the file.
        header: whether csv and tsv name their columns in the first line.
    """
    kind = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if kind == ".json":
                found = json.load(file)
                return _record(found[0] if isinstance(found, list) and found else found)
            if kind == ".jsonl":
                return _record(json.loads(file.readline()))
            if kind == ".csv":
                from shoestring.data.csv_fields import fields_of_any_length

                reader = csv.reader(file)
                with fields_of_any_length():
                    lines = [next(reader, []) for _ in range(2)]
            else:
                lines = [file.readline().rstrip("\r\n").split("\t") for _ in range(2)]
    except (OSError, ValueError, csv.Error):
        return FirstRow()
    names, row = lines[0], lines[1] if header else lines[0]
    by_number = {str(place): cell for place, cell in enumerate(row)}
    by_number |= {str(place - len(row)): cell for place, cell in enumerate(row)}
    return FirstRow(tuple(names), dict(zip(names, row, strict=False)) if header else by_number)


def _record(found: Any) -> FirstRow:
    return FirstRow(tuple(map(str, found)), found) if isinstance(found, dict) else FirstRow()
