"""`shoestring bench table`: how fast many records become a table here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli.bench_options import Format, Out, Rounds, check_place, command_line, measured

if TYPE_CHECKING:
    from shoestring.bench.records import RecordReport
    from shoestring.tables.cells import TableData


def table(
    records: Annotated[int, typer.Option(min=1, help="Records, made up.")] = 2000,
    rounds: Rounds = 3,
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Measure tables over many records: reading, arranging, published numbers beside them, and the whole command.

    shoestring bench table --records 2000
    """
    check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch"):
        from shoestring.bench.records import RecordSettings, bench_records
        from shoestring.cli.summary import print_table
        from shoestring.tables.formats import FORMATS
    settings = RecordSettings(records=records, rounds=rounds)
    command = command_line("table", {"records": records, "rounds": rounds})
    made = records_table(measured(bench_records, settings, command, out))
    if format_ == "text":
        print_table(made)
    else:
        typer.echo(FORMATS.get(format_)(made), nl=False)


def records_table(report: RecordReport) -> TableData:
    """Return the table, the goal beside the figure that it is about."""
    from shoestring.bench.records import GOAL
    from shoestring.tables.cells import Cell, Column, TableData

    rows: list[tuple[Cell, Cell]] = []
    for number, row in enumerate(report.rows, start=1):
        goal = f" (goal: below {GOAL:g})" if number == len(report.rows) else ""
        text = f"{row.time.median:.2f} ({row.time.iqr:.2f}){goal}"
        rows.append((Cell(row.what, (row.what,)), Cell(text, (row.time.median, row.time.iqr))))
    columns = (Column("what", "left", ("what",)), Column("s (iqr)", "right", ("seconds", "iqr")))
    caption = f"{report.settings.records:,} records: seconds, medians of {report.settings.rounds} rounds"
    return TableData(columns, tuple(rows), caption, tuple(_notes(report)))


def _notes(report: RecordReport) -> Iterator[str]:
    found = report.environment
    yield f"{found['device']}; {found['platform']}; measured in {report.seconds:,.0f} s"
    yield f"shoestring {found['shoestring']}, python {found['python']}"
    yield report.command
