"""`shoestring replay`: the log of a zeroth-order run to the model that it tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="trajectory.bin of a run, or the run's folder.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the model; it must be empty.")],
    model: Annotated[
        str | None, typer.Option(metavar="BASE", help="The base model; by default the one that the log names.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop at step N; by default at the end of the log.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the kind of device of the run: rounding differs.")
    ] = None,
) -> None:
    """Make the weights of a zeroth-order run again, bit for bit, from its log and its base model.

    Needs no data and no forward pass. Writes the model as the run would: whole, or its peft adapter.

        shoestring replay runs/0123456789abcdef --model roberta-large --out tuned
    """
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.runs.replay import replay_run
        from shoestring.training.settings import TRAJECTORY
    place = log / TRAJECTORY if log.is_dir() else log
    with screen.progress() as progress:
        done = replay_run(place, out, model=model, steps=steps, device=device, progress=progress)
    origin = done.origin
    screen.out().print(f"{out}: {done.model}, {origin.task}, {done.steps} steps of {origin.method.kind}")
    if done.kept is not None and done.kept != done.steps:
        note = f"note: the run itself kept the weights of step {done.kept}: --steps {done.kept}"
        screen.err().print(note, style="yellow")
