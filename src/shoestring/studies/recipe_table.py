"""The published numbers of a recipe, as a table."""

from __future__ import annotations

from shoestring.studies.study import Published, Study
from shoestring.tables.grouping import NOTHING
from shoestring.tables.table import Cell, Column, TableData, title


def published_table(study: Study) -> TableData | None:
    """Return the published numbers, a row for each variant; None where there are none."""
    entries = study.settings.published
    if not entries:
        return None
    values = list(dict.fromkeys(value for entry in entries for value in entry.values))
    metrics = sorted({entry.metric for entry in entries})
    columns = [Column("variant", "left", ("variant",))]
    columns += [Column(value, "right", (f"{value} mean", f"{value} sd")) for value in values]
    rows = [
        (Cell(entry.variant or NOTHING, (entry.variant,)), *(_cell(entry, value) for value in values))
        for entry in entries
    ]
    what = title(metrics[0]) if len(metrics) == 1 else "each task's metric"
    sources = dict.fromkeys(entry.source for entry in entries)
    return TableData(tuple(columns), tuple(rows), f"published: {what} x 100, mean (sd)", tuple(sources))


def _cell(entry: Published, value: str) -> Cell:
    if value not in entry.values:
        return Cell(NOTHING, (None, None))
    mean, sd = entry.numbers[value]
    return Cell(
        f"{mean:.1f}" + (f" ({sd:.1f})" if sd is not None else ""), (mean / 100, None if sd is None else sd / 100)
    )
