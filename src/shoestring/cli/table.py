"""`shoestring table`: records to a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli import options

FORMATS = ("text", "markdown", "latex", "csv")


def table(  # noqa: PLR0913 - typer reads the options from here
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or run folders.")],
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY,...", help="What tells rows apart: task, model, method, or keys such as method.lr."),
    ] = None,
    columns: Annotated[str, typer.Option(metavar="KEY", help="What tells columns apart.")] = "task",
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The metric to show and to choose by; by default each task's own."),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="|".join(FORMATS), callback=options.one_of(FORMATS), help="How to print."
        ),
    ] = "text",
    every: Annotated[
        bool, typer.Option("--all", help="Give every hyper-parameter setting a row, instead of the best on dev.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="13,21,42", help="The seeds to rest on; missing ones are named.")
    ] = None,
    costs: Annotated[bool, typer.Option(help="Passes, seconds, memory and trained weights.")] = True,
) -> None:
    """Make a table of finished runs: mean (sd, n) of the test metric over seeds.

    Where runs differ only in hyper-parameters, each seed counts the one that is best on dev; test has no say in it.

        shoestring table runs --format latex
    """
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    from dataclasses import replace

    from shoestring.cli import screen
    from shoestring.cli.summary import print_table
    from shoestring.errors import RunFolderError
    from shoestring.runs.collect import read_records
    from shoestring.runs.formats import FORMATS as formats
    from shoestring.runs.table import Layout, tabulate

    found = read_records(runs)
    layout = Layout(options.names(by or ""), columns, metric, wanted, every_trial=every, costs=costs)
    try:
        made = tabulate(found.records, layout)
    except RunFolderError as error:
        for note in found.notes:
            error.add_note(note)
        raise
    made = replace(made, notes=(*made.notes, *found.notes))
    if format_ == "text":
        print_table(made)
        return
    typer.echo(formats.get(format_)(made), nl=False)
    if format_ == "csv":
        for note in made.notes:
            screen.err().print(note)
