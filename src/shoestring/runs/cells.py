"""What a table is made of, and how its numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shoestring.tasks.metrics import METRICS

LOSS = "loss"
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


def shown(metric: str, value: float) -> str:
    """Return a metric's value as tables print it: times 100, one decimal; a loss as it is, three decimals."""
    return f"{value:.3f}" if metric == LOSS else f"{100 * value:.1f}"


def title(metric: str) -> str:
    """Return how tables call a metric."""
    return LOSS if metric == LOSS else METRICS.get(metric).title
