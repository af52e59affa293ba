"""`shoestring data`: write published splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli import options
from shoestring.cli.group import Commands

if TYPE_CHECKING:
    from shoestring.data.kshot import KshotReport, KshotSettings

MODES = ("k-shot", "k-shot-10x", "k-shot-1k-test")
ALL = "all"

data = typer.Typer(cls=Commands, help="Write k-shot folders as the papers have them.", no_args_is_help=True)


@data.callback()
def group() -> None:
    """Make `kshot` a command of its own, although it is the only one so far."""


@data.command("kshot")
def kshot(
    source: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the original files.")],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write MODE/TASK/K-SEED in.")],
    task: Annotated[
        list[str], typer.Option(metavar="NAME", help="A task; repeat it for more, or 'all' that are there.")
    ],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Training examples per label.")] = 16,
    seeds: Annotated[str, typer.Option(metavar="13,21,...", help="One folder each.")] = "13,21,42,87,100",
    mode: Annotated[
        str,
        typer.Option(
            metavar="|".join(MODES), callback=options.one_of(MODES), help="10x: more dev; 1k-test: less test."
        ),
    ] = "k-shot",
    force: Annotated[bool, typer.Option("--force", help="Replace folders that hold something else.")] = False,
) -> None:
    """Write LM-BFF's k-shot folders, byte for byte as the published scripts do.

    shoestring data kshot --source original --out data --task trec --task SST-2
    """
    numbers = options.integers(seeds, "--seeds")
    from shoestring.cli import screen
    from shoestring.config import build
    from shoestring.data.kshot import KshotSettings, write_kshot

    wanted, absent = _tasks(task, source)
    table = {"source": source, "out": out, "tasks": wanted, "k": k, "seeds": numbers, "mode": mode, "force": force}
    settings = build(KshotSettings, table, "command line")
    with screen.progress() as progress, progress.bar("k-shot folders", len(wanted) * len(numbers)) as bar:
        report = write_kshot(settings, lambda _: bar.advance())
    _print(settings, report, absent)


def _tasks(given: list[str], source: str) -> tuple[list[str], list[str]]:
    """Return the tasks to draw; with `all`, those of the catalogue that are there, and those that are not."""
    if ALL not in given:
        return given, []
    from shoestring.data.settings import DataSettings
    from shoestring.data.sources import find_folder
    from shoestring.errors import DataError
    from shoestring.tasks.load import FIRST_SUITE, load_task, task_names

    there: list[str] = []
    root = Path(source)
    for name in task_names(FIRST_SUITE):
        files = find_folder(load_task(name), DataSettings(source=source)).paths
        if any(path.parent == root for path in files.values()):
            raise DataError(source, "holds the files of one task; name that task, or give a folder that holds one each")
        if files:
            there.append(name)
    if not there:
        raise DataError(source, "holds the original files of no task" if root.is_dir() else "there is no such folder")
    return there, [name for name in task_names(FIRST_SUITE) if name not in there]


def _print(settings: KshotSettings, report: KshotReport, absent: list[str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shoestring.cli import screen

    console = screen.out()
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("task", "folders", "written", "unchanged"):
        table.add_column(head, justify="left" if head in ("task", "folders") else "right")
    by_task: dict[Path, list[Path]] = {}
    for folder in sorted(
        {*report.written, *report.unchanged}, key=lambda path: (path.parent.name.casefold(), _seed(path))
    ):
        by_task.setdefault(folder.parent, []).append(folder)
    for parent, folders in by_task.items():
        new = sum(folder in report.written for folder in folders)
        table.add_row(
            Text(parent.name), Text(" ".join(folder.name for folder in folders)), str(new), str(len(folders) - new)
        )
    if console.is_terminal:
        console.print(table)
        console.print(f"in {Path(settings.out) / settings.mode}")
    else:
        for folder in [*report.written, *report.unchanged]:
            typer.echo(f"{'written' if folder in report.written else 'unchanged'}\t{folder}")
    if absent:
        screen.err().print(f"not in {settings.source}: {', '.join(absent)}")
    for warning in report.warnings:
        screen.err().print(f"note: {warning}", style="yellow")


def _seed(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
