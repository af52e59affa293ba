"""`shoestring extract`: hidden states and feed-forward activations at the answer, to a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig


def extract(
    source: Annotated[
        str | None, typer.Argument(metavar="RUN_OR_RECIPE", help="The folder of a finished run, or a recipe.")
    ] = None,
    overrides: options.Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="Where to write; uids and labels: FILE.json.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, dev, or a test set.")] = "test",
    layers: Annotated[
        str | None,
        typer.Option(metavar="0,5,-1", help="Feed-forward layers, from the end if negative; by default all."),
    ] = None,
) -> None:
    """Write the last hidden state and the feed-forward activations at the answer token, for each example of a split.

    Of a run it is the model that the run kept; of a recipe, the model that training would begin with.

        shoestring extract runs/0123456789abcdef --out activations.safetensors --layers 0,-1
    """
    if out is None or out.suffix != ".safetensors":
        raise typer.BadParameter("--out FILE.safetensors is needed; uids and labels go to FILE.json")
    wanted = _numbers(layers) if layers is not None else None
    config, tuned = _config(source, overrides)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.runs.extracting import extract as write
    with screen.progress() as progress:
        done = write(config, out, tuned=tuned, split=split, layers=wanted, progress=progress)
    tensors = ", ".join(f"{name} {list(shape)}" for name, shape in done.shapes.items())
    screen.out().print(f"{out}: {done.examples} examples of {config.task.name}, {split}: {tensors}", markup=False)


def _config(source: str | None, overrides: list[str] | None) -> tuple[RunConfig, Path | None]:
    if source is not None and Path(source).is_dir():
        if overrides:
            raise typer.BadParameter(
                f"{source} is a run, whose settings are what they were; {overrides[0]} is for recipes"
            )
        from shoestring.runs.extracting import config_of

        return config_of(Path(source))
    path, keys = options.recipe_and_overrides(source, overrides)
    if path is not None and not path.suffix and not path.exists():
        from shoestring.runs.export import finished_run

        finished_run(path)  # Says that there is no such run, and which there are.
    if path is None and not keys:
        raise typer.BadParameter("the folder of a run, or a recipe, is needed; see shoestring extract --help")
    from shoestring.runs.config import load_config

    return load_config(path, keys), None


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--layers: {text!r} is not of the form 0,5,-1") from None
