"""`shoestring kernel-behaviour`: whether kernels describe what fine-tuning did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli import options
from shoestring.cli.table import FORMATS as _ALL

FORMATS = tuple(name for name in _ALL if name != "parquet")  # There is no --out.


def kernel_behaviour(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or run folders.")],
    examples: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most training examples whose gradients are compared.")
    ] = 32,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Examples that are looked at at once.")] = 8,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="|".join(FORMATS), callback=options.one_of(FORMATS), help="How to print."
        ),
    ] = "text",
) -> None:
    """Compare kernels with fine-tuning: what each reaches, what the linearised model keeps of it, how gradients move.

    Runs by sgd are paired with kernels of formula sgd, those by adam with signgd and asymmetric-signgd, on one task
    with one setting; they must have kept their models (output.keep_model=true).

        shoestring sweep recipes/kernel-behaviour/roberta-base-k16.toml
        shoestring kernel-behaviour runs
    """
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.runs.behaviour import Looking
        from shoestring.tables.behaviour_table import kernel_behaviour as compare
    from shoestring.cli.summary import print_table
    from shoestring.tables.formats import FORMATS as formats

    with screen.progress() as progress:
        made = compare(runs, Looking(examples, batch_size), progress)
    if format_ == "text":
        print_table(made)
        return
    typer.echo(formats.get(format_)(made), nl=False)
    if format_ == "csv":
        for note in made.notes:
            screen.err().print(note)
