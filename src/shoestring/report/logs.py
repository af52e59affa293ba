"""What runs wrote while they went on: metrics.jsonl and predictions.jsonl, read for what is whole in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from shoestring.report.figures import TRAIN_LOSS
from shoestring.runs.record import METRICS, PREDICTIONS

if TYPE_CHECKING:
    from shoestring.runs.collect import Collected
    from shoestring.runs.record import Record

Curve = list[tuple[float, float]]
"""(step, value), in order of steps."""


@dataclass
class Logs:
    """The logs of collected runs. A run is found by its record as it was collected.

    Attributes:
        found: the runs.
        problems: what could not be read, in order, each once.
    """

    found: Collected
    problems: dict[str, None] = field(default_factory=dict[str, None])
    _folders: dict[int, Path] = field(init=False)
    _read: dict[int, list[dict[str, Any]]] = field(default_factory=dict[int, list[dict[str, Any]]])

    def __post_init__(self) -> None:
        """Note where each run lies."""
        pairs = zip(self.found.records, self.found.folders, strict=True)
        self._folders = {id(record): folder for record, folder in pairs}

    def folder(self, record: Record) -> Path:
        """Return where a run lies."""
        return self._folders[id(record)]

    def curve(self, record: Record, metric: str) -> Curve:
        """Return what a run logged of a metric on dev, or of `train-loss`; empty where it logged nothing.

        Where a step stands twice, the later line counts. Values that are not finite are left out, and so are lines of
        methods that try settings instead of making steps: those of a training say their learning rate.
        """
        train = metric == TRAIN_LOSS
        key = "loss" if train else f"eval_{metric}"
        known: dict[float, float] = {}
        for line in self._lines(record):
            step, value = line.get("step"), line.get(key)
            if _number(step) and _number(value) and ("lr" in line or not train):
                known[float(step)] = float(value)
        return sorted(known.items())

    def predictions(self, record: Record) -> Iterator[dict[str, Any]]:
        """Yield the rows of predictions.jsonl; a run without them is noted as a problem."""
        path = self.folder(record) / PREDICTIONS
        rows = _rows(path)
        if rows is None:
            self.problems[f"run {record.run_id} has no {PREDICTIONS} that can be read"] = None
            return
        torn = 0
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("split"), str) and "uid" in row and "prediction" in row:
                yield row
            else:
                torn += 1
        if torn:
            lines = "1 line" if torn == 1 else f"{torn} lines"
            self.problems[f"run {record.run_id}: {lines} of {PREDICTIONS} cannot be read and are left out"] = None

    def _lines(self, record: Record) -> list[dict[str, Any]]:
        if id(record) not in self._read:
            rows = _rows(self.folder(record) / METRICS) or ()
            self._read[id(record)] = [row for row in rows if isinstance(row, dict)]
        return self._read[id(record)]


def _rows(path: Path) -> list[Any] | None:
    """Return the documents of a file, None in the place of a line that is none; None where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return None
    return [_document(line) for line in lines if line]


def _document(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def softmax(scores: Sequence[float]) -> list[float]:
    """Return shares that add up to one, in proportion to exp(score); -inf has none.

    >>> softmax([0.0, 0.0])
    [0.5, 0.5]
    """
    highest = max(scores)
    weights = [math.exp(value - highest) for value in scores]
    total = sum(weights)
    return [weight / total for weight in weights]
