"""The table of the benchmark of scoring."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from shoestring.bench.scoring_settings import TRAINING, ScoringReport, ScoringRow
from shoestring.bench.settings import Timed
from shoestring.cli.summary import print_table
from shoestring.tables.formats import FORMATS
from shoestring.tables.table import Cell, Column, TableData


def print_scoring(report: ScoringReport, format_: str) -> None:
    """Print what was measured."""
    if format_ == "text":
        print_table(scoring_table(report))
    else:
        typer.echo(FORMATS.get(format_)(scoring_table(report)), nl=False)


def scoring_table(report: ScoringReport) -> TableData:
    """Return the table, goals beside the figures they are about."""
    columns = (
        Column("case", "left", ("case",)),
        Column("candidates", "right", ("candidates",)),
        Column("tokens", "right", ("tokens",)),
        Column("reference, ms (iqr)", "right", ("reference_seconds", "reference_iqr")),
        Column("ours, ms (iqr)", "right", ("seconds", "iqr")),
        Column("reference / ours", "right", ("speedup",)),
        Column("difference", "right", ("difference",)),
    )
    settings = report.settings
    caption = (
        f"scoring: {settings.model} {settings.dtype}, milliseconds an example, medians of {settings.rounds} rounds; "
        "goals in parentheses"
    )
    return TableData(columns, tuple(tuple(_cells(row)) for row in report.rows), caption, tuple(_notes(report)))


def _cells(row: ScoringRow) -> Iterator[Cell]:
    name = f"training batch, {row.case}" if row.case in TRAINING else row.case
    yield Cell(name, (row.case,))
    yield Cell(str(row.candidates), (row.candidates,))
    yield Cell(str(row.tokens), (row.tokens,))
    yield _time(row.reference)
    yield _time(row.ours)
    goal = "".join(f" ({goal.text})" for goal in row.goals)
    yield Cell(f"{row.speedup:.2f}{goal}", (row.speedup,))
    yield Cell(f"{row.difference:.0e}", (row.difference,))


def _time(time: Timed) -> Cell:
    return Cell(f"{time.median * 1e3:,.1f} ({time.iqr * 1e3:,.1f})", (time.median, time.iqr))


def _notes(report: ScoringReport) -> Iterator[str]:
    yield (
        "reference: one candidate at a time, in training one row a candidate, with logits at every position; "
        "difference: of scores or losses, over 1 + |score|"
    )
    found = report.environment
    count = report.settings.threads
    threads = "1 thread" if count == 1 else f"{count} threads"
    yield f"{found['device']}, {threads}; {found['platform']}; measured in {report.seconds:,.0f} s"
    packages: dict[str, str] = found["packages"]
    versions = {"shoestring": found["shoestring"], "python": found["python"]}
    versions |= {name: packages[name] for name in ("torch", "transformers")}
    yield ", ".join(f"{name} {version}" for name, version in versions.items())
    yield report.command
