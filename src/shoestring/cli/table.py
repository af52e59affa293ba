"""`shoestring table`: records to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.studies.study import Study
    from shoestring.tables.table import TableData

FORMATS = ("text", "markdown", "latex", "csv", "parquet")
_ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


Runs = Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or run folders.")]
By = Annotated[
    str | None,
    typer.Option(metavar="KEY,...", help="What tells rows apart: task, model, method, or keys such as method.lr."),
]
Columns = Annotated[str | None, typer.Option(metavar="KEY", help="What tells columns apart; the task unless given.")]
Metric = Annotated[
    str | None, typer.Option(metavar="NAME", help="The metric to show and to choose by; by default each task's own.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="|".join(FORMATS),
        callback=options.one_of(FORMATS),
        help="How to write it; by default as --out ends, or text.",
    ),
]
Every = Annotated[
    bool, typer.Option("--all", help="Give every hyper-parameter setting a row, instead of the best on dev.")
]
Seeds = Annotated[str | None, typer.Option(metavar="13,21,42", help="The seeds to rest on; missing ones are named.")]
Median = Annotated[bool, typer.Option("--median", help="Medians and ranges, instead of means and deviations.")]
Versus = Annotated[
    str | None,
    typer.Option(metavar="ROW", help="How the other rows differ from this one on the same splits, and paired tests."),
]
Against = Annotated[
    str | None, typer.Option(metavar="RECIPE", help="Put a recipe's published numbers beside those of its runs.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="With --against: a setting of your runs that differs; repeat."),
]


def table(  # noqa: PLR0913 - typer reads the options from here
    runs: Runs,
    by: By = None,
    columns: Columns = None,
    metric: Metric = None,
    format_: Format = None,
    every: Every = False,
    seeds: Seeds = None,
    costs: Annotated[bool, typer.Option(help="Passes, seconds, memory and trained weights.")] = True,
    median: Median = False,
    versus: Versus = None,
    against: Against = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there, instead of printing it.")] = None,
) -> None:
    """Make a table of finished runs: mean (sd, n) of the test metric over seeds.

    Where runs differ only in hyper-parameters, each seed counts the one that is best on dev; test has no say in it.

        shoestring table runs --format latex
    """
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    rows = options.chosen(by, "--by") if by is not None else ()
    given = {"--by": by, "--columns": columns, "--metric": metric, "--all": every, "--median": median}
    _refuse_together(given | {"--versus": versus, "--against": against, "--set": set_})
    format_ = format_of(format_, out)
    from dataclasses import replace

    from shoestring.errors import RunFolderError
    from shoestring.runs.collect import read_records
    from shoestring.tables.table import Layout, tabulate

    found = read_records(runs)
    layout = Layout(rows, columns or "task", metric, wanted, every, costs, median, versus)
    try:
        if against is not None:
            from shoestring.studies.against import compare

            made = compare(_study(against, set_ or [], wanted, runs), found.records, with_costs=costs)
        else:
            made = tabulate(found.records, layout)
    except RunFolderError as error:
        for note in found.notes:
            error.add_note(note)
        raise
    write(replace(made, notes=(*made.notes, *found.notes)), format_, out)


def _refuse_together(given: dict[str, object]) -> None:
    if given["--median"] and given["--versus"] is not None:
        raise typer.BadParameter("--median and --versus show different things; give one of them")
    if given["--set"] and given["--against"] is None:
        raise typer.BadParameter("--set says what differs from a recipe; it goes with --against")
    idle = [name for name in ("--by", "--columns", "--metric", "--all", "--median", "--versus") if given[name]]
    if given["--against"] is not None and idle:
        raise typer.BadParameter(f"--against takes rows, columns and metrics from the recipe; leave {idle[0]} out")


def format_of(given: str | None, out: Path | None) -> str:
    """Return the format of a table: what was given, or what the file's name says."""
    chosen = given or ("text" if out is None else _ENDINGS.get(out.suffix.lower(), ""))
    if not chosen:
        raise typer.BadParameter(f"--out {out}: give --format, or an ending: {', '.join(_ENDINGS)}")
    if chosen == "parquet" and out is None:
        raise typer.BadParameter("parquet is no text: give --out FILE.parquet")
    return chosen


def _study(text: str, keys: list[str], seeds: tuple[int, ...], runs: list[Path]) -> Study:
    from dataclasses import replace

    from shoestring.runs.record import CONFIG
    from shoestring.studies.recipes import find_recipe
    from shoestring.studies.study import load_study

    path = Path(text)
    file = path if path.exists() else find_recipe(text)
    study = load_study(file, keys, seeds=seeds)
    if len(runs) == 1 and not (runs[0] / CONFIG).is_file() and not _writes_to(study, runs[0]):
        study = load_study(file, keys, seeds=seeds, out=str(runs[0]))  # What is missing belongs beside the others.
    return replace(study, source=text)  # As it was given: commands in notes are read by people.


def _writes_to(study: Study, folder: Path) -> bool:
    from shoestring.runs.config import OutputSettings

    places = {str(arm.base.get("output", {}).get("folder", OutputSettings().folder)) for arm in study.arms}
    said = any(text.startswith("output") for text in study.fixed)
    return said or all(Path(place).resolve() == folder.resolve() for place in places)


def write(table: TableData, format_: str, out: Path | None) -> None:
    """Print a table, or write it to a file and print which."""
    from shoestring.cli import screen
    from shoestring.cli.summary import print_table
    from shoestring.files import make_folder, passes_on, write_text
    from shoestring.tables.formats import FORMATS as formats

    if format_ == "text" and out is None:
        print_table(table)
        return
    if out is None:
        typer.echo(formats.get(format_)(table), nl=False)
    else:
        if format_ == "parquet":
            from shoestring.tables.parquet import write_parquet

            write_parquet(table, out)
        else:
            make_folder(out.parent)
            write_text(out, formats.get(format_)(table))
        typer.echo(out, err=passes_on(out))  # What went to a pipe, or to stdout, is the table alone.
    if format_ == "csv":
        for note in table.notes:
            screen.err().print(note)
