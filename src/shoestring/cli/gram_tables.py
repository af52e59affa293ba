"""The tables of the benchmark of kernels."""

from __future__ import annotations

from collections.abc import Iterator

from shoestring.bench.gram_settings import GramReport, GramRow
from shoestring.bench.settings import Timed
from shoestring.cli.bench_tables import machine, print_tables
from shoestring.tables.table import MIB, Cell, Column, TableData


def print_gram_report(report: GramReport, format_: str) -> None:
    """Print what was measured: a table of kernels, and one of how their time grows."""
    print_tables([gram_table(report), *([growth_table(report)] if report.growth else [])], format_)


def gram_table(report: GramReport) -> TableData:
    """Return the table of kernels, goals beside the figures they are about."""
    left = [Column(name, "left", (name,)) for name in ("model", "formula")]
    right = [
        Column("N = M", "right", ("examples",)),
        Column("s (iqr)", "right", ("seconds", "iqr")),
        Column("reference s (iqr)", "right", ("reference_seconds", "reference_iqr")),
        Column("measured", "right", ("measured",)),
        Column("reference / ours", "right", ("speedup",)),
        Column("by processor time", "right", ("processor",)),
        Column("peak MiB", "right", ("peak",)),
        Column("reference's", "right", ("reference_peak",)),
        Column("passes", "right", ("passes",)),
        Column("difference", "right", ("difference",)),
    ]
    rows = tuple(tuple(_cells(row)) for row in report.rows)
    settings = report.settings
    caption = (
        f"kernels of N examples and M others: {settings.tokens} tokens, f_1 - f_0, "
        f"medians of {settings.rounds} rounds; goals in parentheses"
    )
    return TableData((*left, *right), rows, caption, tuple(_notes(report)))


def growth_table(report: GramReport) -> TableData:
    """Return the table of how time grows with the number of examples."""
    columns = [Column(name, "left", (name,)) for name in ("model", "formula")]
    columns += [Column("N = M", "right", ("few", "many"))]
    columns += [Column("ours", "right", ("ours",)), Column("reference", "right", ("reference",))]
    rows = tuple(
        (
            Cell(growth.model, (growth.model,)),
            Cell(growth.formula, (growth.formula,)),
            Cell(f"{growth.examples[0]} -> {growth.examples[1]}", growth.examples),
            Cell(f"{growth.ours:.2f}", (growth.ours,)),
            Cell(f"{growth.reference:.2f}", (growth.reference,)),
        )
        for growth in report.growth
    )
    return TableData(tuple(columns), rows, "growth: time with the most examples over that with the fewest", ())


def _cells(row: GramRow) -> Iterator[Cell]:
    goals = {goal.what: f" ({goal.text})" for goal in row.goals}
    yield Cell(row.model, (row.model,))
    yield Cell(row.formula, (row.formula,))
    yield Cell(f"{row.examples}", (row.examples,))
    yield _seconds(row.time)
    yield _seconds(row.reference)
    yield Cell(f"{row.measured:.1%}", (row.measured,))
    yield Cell(f"{row.speedup:.1f}{goals.get('speedup', '')}", (row.speedup,))
    yield Cell(f"{row.processor:.1f}", (row.processor,))
    yield Cell(f"{row.peak / MIB:,.0f}{goals.get('memory', '')}", (row.peak,))
    yield Cell(f"{row.reference_peak / MIB:,.0f}", (row.reference_peak,))
    yield Cell(f"{row.passes:,}", (row.passes,))
    yield Cell(f"{row.difference:.1e}", (row.difference,))


def _seconds(time: Timed) -> Cell:
    return Cell(f"{time.median:,.2f} ({time.iqr:,.2f})", (time.median, time.iqr))


def _notes(report: GramReport) -> Iterator[str]:
    settings = report.settings
    yield f"reference: blocks of {settings.reference_rows} x {settings.reference_columns}; a forward-mode product for"
    yield "every row, output and column, or (signgd) Jacobians of both sides of a block, and products in float64"
    yield "measured: share of the reference's blocks that was timed; its seconds are those of all blocks at that rate"
    yield "passes: of one example through the model here, forward and backward, with those of the check before"
    yield "difference: largest between both kernels over the largest entry; where gradients are rounding, signs differ"
    yield f"memory by {report.memory_by}, above what was held before"
    yield from machine(report.environment, settings.threads, report.seconds, report.command)
