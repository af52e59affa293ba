"""Tables over runs: mean (sd, n) over seeds of the trials that dev chose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shoestring.runs.record import Record
from shoestring.runs.words import LOSS, shown, title
from shoestring.tables.arranging import Arrangement, Layout, arrange, best
from shoestring.tables.cells import MIB, Cell, Column, TableData, Value
from shoestring.tables.costs import COST_COLUMNS, COSTS, costs
from shoestring.tables.describing import describe
from shoestring.tables.places import Place, heads_of
from shoestring.tables.views import Means, Medians, Versus, View, mean_and_spread

__all__ = [
    "LOSS",
    "MIB",
    "Arrangement",
    "Cell",
    "Column",
    "Layout",
    "Place",
    "TableData",
    "Value",
    "arrange",
    "best",
    "describe",
    "mean_and_spread",
    "shown",
    "tabulate",
    "title",
]


def tabulate(records: Iterable[Record], layout: Layout | None = None) -> TableData:
    """Return the table of finished runs: in each cell, the test metric's mean (sd, n) over seeds.

    Runs share a cell if they agree in task, data, model, prompt, kind of tuning, kind of method and objective. Of those
    that differ only in other settings of method and tuning, each seed counts the one best on dev (of equals, the one of
    lower dev loss); the test set has no say in it. sd is the population standard deviation, sqrt(mean((x - mean)^2)),
    as in the published tables.

    Raises:
        RunFolderError: if no run has finished.
        UnknownNameError: if the layout names a key, a metric or a row that no run has.
    """
    layout = layout or Layout()
    found = arrange(records, layout)
    view = _view(found, layout)
    heads = heads_of(found.places)
    columns = [Column(head, "left", (head,)) for head in found.labels.heads]
    columns += [
        Column(heads[place], "right", tuple(f"{place.head(metric=True)} {part}" for part in view.parts))
        for place in found.places
    ]
    rows: list[tuple[Cell, ...]] = []
    for mark in found.marks:
        cells = [*(Cell(text, (text,)) for text in mark.texts)]
        cells += [view.cell(mark, place) for place in found.places]
        rows.append((*cells, *(costs(found.row(mark)) if layout.costs else ())))
    return TableData(
        (*columns, *(COST_COLUMNS if layout.costs else ())),
        tuple(rows),
        _caption(found.places, view.told),
        (*((COSTS,) if layout.costs else ()), *view.notes, *found.notes),
    )


def _view(found: Arrangement, layout: Layout) -> View:
    if layout.versus is not None:
        return Versus(found, layout.versus)
    return Medians(found, layout) if layout.median else Means(found, layout)


def _caption(places: Sequence[Place], told: str) -> str:
    metrics = sorted({place.metric for place in places})
    what = title(metrics[0]) if len(metrics) == 1 else "the metric named"
    scale = "" if metrics == [LOSS] else " x 100" if LOSS not in metrics else " x 100 (losses as they are)"
    return f"{what}{scale} on test{told}"
