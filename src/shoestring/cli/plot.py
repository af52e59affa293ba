"""`shoestring plot`: runs to a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.report.plot import Kind

AXES = ("forward-passes", "seconds", "memory", "weights", "steps")
KINDS = ("points", "lines", "curves")


def plot(  # noqa: PLR0913 - typer reads the options from here
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or run folders.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The figure: .png, .svg or .pdf.")],
    x: Annotated[
        str, typer.Option("--x", metavar="|".join(AXES), callback=options.one_of(AXES), help="What it is drawn over.")
    ] = "forward-passes",
    y: Annotated[
        str | None,
        typer.Option("--y", metavar="METRIC", help="By default each task's own; of curves also loss, train-loss."),
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS),
            callback=options.one_of(KINDS),
            help="A point for each cell of the table; a line for each row, over numbers of trained weights; or curves.",
        ),
    ] = None,
    lines: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="WHAT", help="To compare with: chance, a row's name, or full=91.4. Repeatable."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY,...", help="What tells rows apart: model, method, or keys such as method.lr."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Give every hyper-parameter setting a row, instead of the best on dev.")
    ] = False,
    seeds: Annotated[str | None, typer.Option(metavar="13,21,42", help="The seeds to rest on.")] = None,
) -> None:
    """Draw a figure of `shoestring report` into a file: mean and standard deviation over seeds.

    shoestring plot runs --x weights --draw lines --line chance --out scaling.svg
    """
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    rows = options.chosen(by, "--by") if by is not None else ()
    from shoestring.cli import screen
    from shoestring.report.drawing import format_of, need_matplotlib, save
    from shoestring.report.plot import figure_of
    from shoestring.tables.table import Layout

    format_of(out)
    need_matplotlib()
    layout = Layout(rows, seeds=wanted, every_trial=every)
    figure = figure_of(runs, x, y, kind=cast("Kind | None", draw), layout=layout, lines=lines or ())
    save(figure, out)
    for note in figure.notes:
        screen.err().print(f"note: {note}", style="yellow")
    screen.out().print(str(out))
