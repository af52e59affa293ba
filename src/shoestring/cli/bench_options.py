"""Options that benchmarks share, and what they check."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.config import Settings
    from shoestring.progress import Progress

S = TypeVar("S", bound="Settings")
R = TypeVar("R", bound="Settings")

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
FORMATS = ("text", "markdown")

Rounds = Annotated[int, typer.Option(min=1, help="Rounds that count; medians are over them.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; unless given, torch's own.")]
Device = Annotated[str, typer.Option(metavar="|".join(DEVICES), callback=options.one_of(DEVICES), help="Where.")]
Format = Annotated[
    str,
    typer.Option("--format", "-f", metavar="|".join(FORMATS), callback=options.one_of(FORMATS), help="How to print."),
]
Out = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write settings, machine and every figure here.")]


def threads_of(threads: int | None) -> int:
    """Return how many processor threads to use: as asked, or torch's own number."""
    import torch

    from shoestring.studies.launch import cores

    if threads is not None and threads > cores():
        raise typer.BadParameter(f"--threads {threads}: this process may use {cores()} of the processor's cores")
    return threads or min(torch.get_num_threads(), cores())


def check_place(out: Path | None) -> None:
    """Refuse a place that cannot be written before minutes are spent on measuring."""
    if out is None:
        return
    if out.is_dir():
        raise typer.BadParameter(f"--out {out} is a folder, where a file is meant")
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out {out}: there is no folder {out.parent}")


def command_line(name: str, said: Mapping[str, object], *flags: str) -> str:
    """Return the command of a benchmark with these options and flags, fit to be pasted into a shell."""
    words = [word for option, value in said.items() for word in (f"--{option.replace('_', '-')}", str(value))]
    return shlex.join(["shoestring", "bench", name, *flags, *words])


def measured(bench: Callable[[S, str, Progress], R], settings: S, command: str, out: Path | None) -> R:
    """Return what a benchmark reports, and write it to `out` where that is given."""
    from shoestring.cli import screen
    from shoestring.files import write_json

    with screen.progress() as progress:
        report = bench(settings, command, progress)
    if out is not None:
        write_json(out, report.model_dump(mode="json"))
    return report
