"""What a table is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """A column; `csv` names what its cells' `values` are."""

    head: str
    align: Literal["left", "right"]
    csv: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """What people read, and the numbers behind it."""

    text: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class TableData:
    """A table, ready for any format."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
