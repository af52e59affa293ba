"""`shoestring export`: the model of a finished run, for transformers, peft and the lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shoestring.runs.export import Exported


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the model; it must be empty.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Put adapters into the weights that they adapt: a whole model.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="BASE", help="The base model, where it is not where the run had it.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where a log is replayed; by default the kind of device of the run."),
    ] = None,
) -> None:
    """Write the model of a run as a folder that transformers loads, or peft, with the tokenizer.

    Adapters, soft prompts and prefixes of causal models are written for peft, anything else as a whole model. What a
    zeroth-order run did not keep is made again from its log. Prints how the lm-evaluation-harness evaluates it.

        shoestring export runs/0123456789abcdef --out tuned --merge
    """
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.runs.export import export_run
    with screen.progress() as progress:
        done = export_run(run, out, merge=merge, model=model, device=device, progress=progress)
    screen.out().print(_summary(done))
    if done.command is not None:
        typer.echo(done.command)
    for note in _notes(done):
        screen.err().print(f"note: {note}", style="yellow")


def _summary(done: Exported) -> str:
    origin, record = done.origin, done.record
    what = "a whole model" if done.form == "model" else f"an adapter of {origin.model.name}, for peft"
    again = "" if done.steps is None else f", made again up to step {done.steps}"
    return f"{done.out}: {what}; {record.task}, {origin.method.kind}, {origin.tuning.kind}{again}"


def _notes(done: Exported) -> Iterator[str]:
    kind, task = done.origin.model.kind, done.record.task
    if done.command is None:
        yield f"the lm-evaluation-harness asks causal and seq2seq models; this one is of kind {kind}"
    elif done.harness is None:
        yield f"the lm-evaluation-harness has no task known to be {task}; add --tasks and what is to be asked"
