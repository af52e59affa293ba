"""The table of a benchmark of tunings."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from shoestring.bench.tuning import FLOOR, FROZEN, LIMIT, TuningReport, TuningRow
from shoestring.cli.summary import print_table
from shoestring.tables.formats import FORMATS
from shoestring.tables.table import MIB, Cell, Column, TableData

_NONE = Cell("–", (None,))  # noqa: RUF001 - the dash that stands for a missing number
_RATIOS = {
    "of_floor": "/ fwd + bwd", "of_frozen": "/ frozen", "peak_of_floor": "peak / fwd + bwd",
    "peak_of_frozen": "peak / frozen",
}  # fmt: skip


def print_tuning_report(report: TuningReport, format_: str) -> None:
    """Print what was measured, and what it rests on."""
    table = tuning_table(report)
    if format_ == "text":
        print_table(table)
    else:
        typer.echo(FORMATS.get(format_)(table), nl=False)


def tuning_table(report: TuningReport) -> TableData:
    """Return the table of steps, goals beside the figures they are about."""
    columns = (
        *(Column(name, "left", (name,)) for name in ("model", "dtype", "step")),
        Column("trained", "right", ("trained",)),
        Column("ms (iqr)", "right", ("seconds", "iqr")),
        Column(_RATIOS["of_floor"], "right", ("of_floor",)),
        Column(_RATIOS["of_frozen"], "right", ("of_frozen",)),
        Column("peak MiB", "right", ("peak",)),
        Column(_RATIOS["peak_of_floor"], "right", ("peak_of_floor",)),
        Column(_RATIOS["peak_of_frozen"], "right", ("peak_of_frozen",)),
    )
    work = report.settings.workload
    caption = (
        f"training steps: batch {work.batch_size}, {work.tokens} tokens, {work.candidates} candidates, medians of "
        f"{report.settings.rounds} rounds; goals in parentheses"
    )
    rows = tuple(tuple(_cells(row)) for row in report.rows)
    return TableData(columns, rows, caption, tuple(_notes(report)))


def _cells(row: TuningRow) -> Iterator[Cell]:
    yield from (Cell(name, (name,)) for name in (row.model, row.dtype, row.step))
    if row.time is None or row.trained is None or row.peak is None:
        yield from [Cell("refused", (None,)), Cell(_NONE.text, (None, None)), *[_NONE] * 5]
        return
    yield Cell(f"{row.trained:,}", (row.trained,))
    yield Cell(f"{row.time.median * 1e3:,.2f} ({row.time.iqr * 1e3:,.2f})", (row.time.median, row.time.iqr))
    yield _ratio(row, "of_floor")
    yield _ratio(row, "of_frozen")
    yield Cell(f"{row.peak / MIB:,.1f}", (row.peak,))
    yield _ratio(row, "peak_of_floor")
    yield _ratio(row, "peak_of_frozen")


def _ratio(row: TuningRow, name: str) -> Cell:
    value = getattr(row, name)
    goal = f" (<= {LIMIT:g}: {'yes' if row.goals[name] else 'NO'})" if name in row.goals else ""
    return Cell(f"{value:.2f}{goal}", (value,))


def _notes(report: TuningReport) -> Iterator[str]:
    yield f"{FLOOR}: with gradients of all weights; {FROZEN}: of activations only; tunings: a step of AdamW"
    yield f"memory by {report.memory_by}; peaks are above the weights"
    for row in report.rows:
        if row.refused is not None:
            yield f"refused: {row.refused} [{row.model} {row.dtype} {row.step}]"
    found, packages = report.environment, report.environment["packages"]
    count = report.settings.threads
    yield (
        f"{found['device']}, {count} thread{'s' if count > 1 else ''}; {found['platform']}; "
        f"measured in {report.seconds:,.0f} s"
    )
    yield f"shoestring {found['shoestring']}, python {found['python']}, torch {packages['torch']}"
    yield report.command
