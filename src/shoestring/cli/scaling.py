"""`shoestring scaling`: how many weights it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli.table import Format, Runs, format_of, write


def scaling(
    runs: Runs,
    format_: Format = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there, instead of printing it.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw the metric over trained weights, models side by side: .png, .svg, .pdf."
        ),
    ] = None,
) -> None:
    """Show the fewest trained weights that beat chance, or reach full fine-tuning, for each tuning of each model.

    shoestring scaling runs-scaling --plot scaling.svg
    """
    chosen = format_of(format_, out)
    from shoestring.runs.collect import read_records
    from shoestring.studies.scaling import layout_of, scaling_table

    found = read_records(runs)
    table = scaling_table(found.records)
    if plot is not None:
        from shoestring.report.drawing import format_of as form_of
        from shoestring.report.drawing import need_matplotlib, save
        from shoestring.report.figures import scaling_figure
        from shoestring.tables.arranging import arrange

        form_of(plot)
        need_matplotlib()
        save(scaling_figure(arrange(found.records, layout_of()), lines=("chance",)), plot)
    write(table, chosen, out)
