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
    place = _log_in(log)
    with screen.progress() as progress:
        done = replay_run(place, out, model=model, steps=steps, device=device, progress=progress)
    origin = done.origin
    screen.out().print(f"{out}: {done.model}, {origin.task}, {done.steps} steps of {origin.method.kind}")
    if done.kept is not None and done.kept != done.steps:
        note = f"note: the run itself kept the weights of step {done.kept}: --steps {done.kept}"
        screen.err().print(note, style="yellow")


def _log_in(given: Path) -> Path:
    """Return the log that is meant, by its own name or by that of a run's folder."""
    from shoestring.errors import RunFolderError
    from shoestring.runs.export import finished_run
    from shoestring.training.settings import TRAJECTORY

    if given.is_file() or given.suffix == Path(TRAJECTORY).suffix:
        return given
    if not (given / TRAJECTORY).is_file():
        method = finished_run(given).config["method"]["kind"]
        raise RunFolderError(f"{given} has no {TRAJECTORY}: runs by {method} write none, zeroth-order methods do")
    return given / TRAJECTORY
