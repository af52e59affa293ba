"""`shoestring bench`: how fast it is here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli import options
from shoestring.cli.group import Commands

if TYPE_CHECKING:
    from shoestring.bench.settings import BenchSettings

DTYPES = ("float32", "bfloat16", "float16")
CLOSURES = ("per-example", "plain")
DEVICES = ("cpu", "cuda")
FORMATS = ("text", "markdown")

bench = typer.Typer(cls=Commands, help="Measure speed and memory on this machine.", no_args_is_help=True)


Models = Annotated[str, typer.Option(metavar="NAME,...", help="Shapes of models, with random weights.")]
DTypes = Annotated[str, typer.Option(metavar="NAME,...", help=f"Precisions: {', '.join(DTYPES)}.")]
Optimizers = Annotated[str, typer.Option(metavar="NAME,...", help="Zeroth-order optimizers.")]
Families = Annotated[str, typer.Option(metavar="NAME,...", help="Families of directions.")]
Engines = Annotated[str | None, typer.Option(metavar="NAME,...", help="Engines; unless given, every one there is.")]
Closures = Annotated[str, typer.Option(metavar="NAME,...", help=f"How the loss is given: {', '.join(CLOSURES)}.")]
Examples = Annotated[int, typer.Option(min=1, help="Examples.")]
Tokens = Annotated[int, typer.Option(min=4, help="Tokens of a prompt.")]
Candidates = Annotated[int, typer.Option(min=2, help="Candidate answers, of one token each.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds that count; medians are over them.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; unless given, torch's own.")]
Device = Annotated[str, typer.Option(metavar="|".join(DEVICES), callback=options.one_of(DEVICES), help="Where.")]
Elements = Annotated[int, typer.Option(min=1, help="Elements the noise kernels are measured on.")]
Format = Annotated[
    str,
    typer.Option("--format", "-f", metavar="|".join(FORMATS), callback=options.one_of(FORMATS), help="How to print."),
]
Out = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write settings, machine and every figure here.")]


@bench.command("zeroth")
def zeroth(  # noqa: PLR0913 - typer reads the options from here
    model: Models = "opt-125m,roberta-base",
    dtype: DTypes = "float32,bfloat16",
    optimizer: Optimizers = "mezo",
    directions: Families = "gaussian,rademacher",
    engine: Engines = None,
    closure: Closures = "per-example,plain",
    batch_size: Examples = 16,
    tokens: Tokens = 40,
    candidates: Candidates = 2,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "cpu",
    noise_elements: Elements = 1 << 24,
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Measure zeroth-order steps against two bare forwards and against the reference's step, and the noise kernels.

    Nothing is downloaded. Give the machine nothing else to do.

        shoestring bench zeroth --model roberta-base --dtype float32 --threads 2 --out bench.json
    """
    lists = {"models": options.chosen(model, "--model"), "optimizers": options.chosen(optimizer, "--optimizer")}
    lists |= {"dtypes": options.chosen(dtype, "--dtype", DTYPES)}
    lists |= {"directions": options.chosen(directions, "--directions")}
    lists |= {"closures": options.chosen(closure, "--closure", CLOSURES)}
    if engine is not None:
        lists["engines"] = options.chosen(engine, "--engine")
    _check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        import torch

        from shoestring.bench.settings import BenchSettings, Workload
        from shoestring.bench.zeroth import bench_zeroth
        from shoestring.cli.bench_tables import print_report
        from shoestring.files import write_json
        from shoestring.runs.launch import cores
        from shoestring.zeroth.engines.base import ENGINES
    if threads is not None and threads > cores():
        raise typer.BadParameter(f"--threads {threads}: this process may use {cores()} of the processor's cores")
    settings = BenchSettings.model_validate(
        {
            **{"engines": ENGINES.names(), **lists},
            "workload": Workload(batch_size=batch_size, tokens=tokens, candidates=candidates),
            "rounds": rounds,
            "threads": threads or min(torch.get_num_threads(), cores()),
            "device": device,
            "noise_elements": noise_elements,
        }
    )
    with screen.progress() as progress:
        report = bench_zeroth(settings, command_of(settings), progress)
    if out is not None:
        write_json(out, report.model_dump(mode="json"))
    print_report(report, format_)


def command_of(settings: BenchSettings) -> str:
    """Return the command that measures the same again, every option said."""
    work = settings.workload
    said: dict[str, object] = {
        "model": ",".join(settings.models),
        "dtype": ",".join(settings.dtypes),
        "optimizer": ",".join(settings.optimizers),
        "directions": ",".join(settings.directions),
        "engine": ",".join(settings.engines),
        "closure": ",".join(settings.closures),
        "batch-size": work.batch_size,
        "tokens": work.tokens,
        "candidates": work.candidates,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "device": settings.device,
        "noise-elements": settings.noise_elements,
    }
    words = [word for name, value in said.items() for word in (f"--{name}", str(value))]
    return shlex.join(["shoestring", "bench", "zeroth", *words])


def _check_place(out: Path | None) -> None:
    """Refuse a place that cannot be written before minutes are spent on measuring."""
    if out is None:
        return
    if out.is_dir():
        raise typer.BadParameter(f"--out {out} is a folder, where a file is meant")
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out {out}: there is no folder {out.parent}")
