"""`shoestring demo`: the whole way, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the runs; runs/demo unless given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make every run again.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Run nothing; copy models, tasks, data and a recipe to a new folder."),
    ] = None,
    sizes: Annotated[
        bool,
        typer.Option("--sizes", help="With --export: the masked model in three sizes as well; minutes, once."),
    ] = False,
) -> None:
    """Pretrain tiny models on a small made-up language, then compare zero-shot, MeZO and Adam on three tasks.

    Nothing is downloaded. What is done is kept: a second demo only prints the table.
    """
    if export is not None and (force or out is not None):
        raise typer.BadParameter("--export runs nothing, so --out and --force would have no effect")
    if sizes and export is None:
        raise typer.BadParameter("--sizes goes with --export FOLDER, where the models are copied to")
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.cli.summary import print_table
        from shoestring.demo.show import build_assets, build_sizes, run_demo
        from shoestring.tables.table import tabulate
    if export is not None:
        from shoestring.demo import export as playground

        playground.refuse_occupied(export)
        with screen.progress() as progress:
            assets, family = build_sizes(progress) if sizes else (build_assets(progress), None)
        names = playground.export(assets, export, family)
        screen.out().print(f"{export} holds {', '.join(names)}")
        screen.out().print(f"try: shoestring run {export / 'recipe.toml'}")
        return
    out = out or Path("runs/demo")
    with screen.progress() as progress:
        records = run_demo(out, force=force, progress=progress)
    print_table(tabulate(records))
    screen.err().print(f"the runs are in {out}; shoestring demo --export playground gives you models and data to try")
