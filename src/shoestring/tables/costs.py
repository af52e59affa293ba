"""What runs cost, as columns of a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from shoestring.runs.record import Record
from shoestring.tables.cells import MIB, Cell, Column
from shoestring.tables.grouping import NOTHING

COST_COLUMNS = (
    Column("forward passes", "right", ("forward passes",)),
    Column("backward passes", "right", ("backward passes",)),
    Column("seconds", "right", ("seconds",)),
    Column("peak MiB", "right", ("peak bytes above the weights",)),
    Column("trained weights", "right", ("trained weights",)),
)
COSTS = (
    "costs are means over the row's runs; seconds are wall time of fitting, with its evaluations on dev; passes (in "
    "batches) leave those out; "
    "peak MiB is memory above the weights while fitting (while predicting, where nothing is fitted)"
)


def costs(results: Sequence[dict[int, Record]]) -> list[Cell]:
    """Return what the runs of a row cost: means over those that count."""
    runs = list({record.run_id: record for picked in results for record in picked.values()}.values())
    passes = [run.passes for run in runs if run.passes is not None]
    memory = [run.memory.peak for run in runs if run.memory is not None]
    return [
        _cost([count.forward for count in passes], "{:,.0f}"),
        _cost([count.backward for count in passes], "{:,.0f}"),
        _cost([run.seconds["fit"] for run in runs if "fit" in run.seconds], "{:,.1f}"),
        _cost(memory, "{:,.1f}", unit=MIB),
        _weights([run.trained_weights for run in runs if run.weights is not None]),
    ]


def _weights(counts: Sequence[int]) -> Cell:
    cell = _cost(counts, "{:,.0f}")
    millions = statistics.fmean(counts) / 1e6 if counts else 0
    return Cell(f"{millions:,.1f}M", cell.values) if millions >= 1 else cell


def _cost(numbers: Sequence[float], shape: str, unit: int = 1) -> Cell:
    if not numbers:
        return Cell(NOTHING, (None,))
    mean = statistics.fmean(numbers)
    return Cell(shape.format(mean / unit), (int(mean) if mean == int(mean) else mean,))
