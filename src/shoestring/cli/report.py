"""`shoestring report`: runs to one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli import options


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or run folders.")],
    html: Annotated[
        Path,
        typer.Option("--html", metavar="PLACE", help="A folder, for its index.html, or a file: x.html."),
    ],
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY,...", help="What tells rows apart: model, method, or keys such as method.lr."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The metric to show and to choose by; by default each task's own."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Give every hyper-parameter setting a row, instead of the best on dev.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="13,21,42", help="The seeds to rest on; missing ones are named.")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="The page's title.")] = None,
) -> None:
    """Make one page of finished runs, to be opened in any browser: the table, what it costs, curves, classes, examples.

    The page is one file that needs no network. Its table is that of `shoestring table`.

        shoestring report runs --html report
    """
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    rows = options.chosen(by, "--by") if by is not None else ()
    from shoestring.cli import screen
    from shoestring.report.write import write_report
    from shoestring.tables.table import Layout

    layout = Layout(rows, metric=metric, seeds=wanted, every_trial=every)
    with screen.waiting("reading runs"):
        page = write_report(runs, html, layout, title=title)
    screen.out().print(str(page))
