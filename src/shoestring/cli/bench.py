"""`shoestring bench`: how fast it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli import options
from shoestring.cli.bench_options import (
    DTYPES,
    Device,
    Format,
    Out,
    Rounds,
    Threads,
    check_place,
    command_line,
    measured,
    threads_of,
)
from shoestring.cli.bench_records import table
from shoestring.cli.bench_scoring import scoring
from shoestring.cli.group import Commands

if TYPE_CHECKING:
    from shoestring.bench.gram_settings import GramSettings
    from shoestring.bench.settings import BenchSettings

CLOSURES = ("per-example", "plain")

bench = typer.Typer(cls=Commands, help="Measure speed and memory on this machine.", no_args_is_help=True)
bench.command("scoring")(scoring)
bench.command("table")(table)


Models = Annotated[str, typer.Option(metavar="NAME,...", help="Shapes of models, with random weights.")]
DTypes = Annotated[str, typer.Option(metavar="NAME,...", help=f"Precisions: {', '.join(DTYPES)}.")]
Optimizers = Annotated[str, typer.Option(metavar="NAME,...", help="Zeroth-order optimizers.")]
Families = Annotated[str, typer.Option(metavar="NAME,...", help="Families of directions.")]
Engines = Annotated[str | None, typer.Option(metavar="NAME,...", help="Engines; unless given, every one there is.")]
Tunings = Annotated[str, typer.Option(metavar="NAME,...", help="Tunings, with their defaults.")]
Closures = Annotated[str, typer.Option(metavar="NAME,...", help=f"How the loss is given: {', '.join(CLOSURES)}.")]
Examples = Annotated[int, typer.Option(min=1, help="Examples.")]
Tokens = Annotated[int, typer.Option(min=4, help="Tokens of a prompt.")]
Shortest = Annotated[
    int | None, typer.Option(min=4, help="Tokens of the shortest prompt; unless given, all are of equal length.")
]
Candidates = Annotated[int, typer.Option(min=2, help="Candidate answers, of one token each.")]
Formulas = Annotated[str, typer.Option(metavar="NAME,...", help="Formulas of kernels.")]
Counts = Annotated[str, typer.Option(metavar="N,...", help="Examples, of rows and as many of columns.")]
Memory = Annotated[int, typer.Option(min=1, help="MiB that may be held here beyond one batch's passes.")]
Scratch = Annotated[
    bool, typer.Option("--scratch/--no-scratch", help="Keep captured gradients in a temporary file, or in memory.")
]
ReferenceRows = Annotated[int, typer.Option(min=1, help="Rows of a block of the reference.")]
ReferenceColumns = Annotated[int, typer.Option(min=1, help="Columns of a block of the reference.")]
ReferenceBlocks = Annotated[int, typer.Option(min=0, help="Blocks of the reference that are measured; 0 for all.")]
Elements = Annotated[int, typer.Option(min=1, help="Elements the noise kernels are measured on.")]


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
    shortest: Shortest = None,
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
    check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.bench.settings import BenchSettings, Workload
        from shoestring.bench.zeroth import bench_zeroth
        from shoestring.cli.bench_tables import print_report
    settings = BenchSettings.model_validate(
        {
            **lists,
            "workload": Workload(batch_size=batch_size, tokens=tokens, shortest=shortest, candidates=candidates),
            "rounds": rounds,
            "threads": threads_of(threads),
            "device": device,
            "noise_elements": noise_elements,
        }
    )
    print_report(measured(bench_zeroth, settings, command_of(settings), out), format_)


@bench.command("kernels")
def kernels(  # noqa: PLR0913 - typer reads the options from here
    model: Models = "roberta-base",
    formula: Formulas = "sgd,asymmetric-signgd,signgd",
    examples: Counts = "16,32,64",
    tokens: Tokens = 128,
    batch_size: Examples = 4,
    memory: Memory = 1024,
    scratch: Scratch = True,
    reference_rows: ReferenceRows = 2,
    reference_columns: ReferenceColumns = 4,
    reference_blocks: ReferenceBlocks = 1,
    rounds: Rounds = 1,
    threads: Threads = None,
    device: Device = "cpu",
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Measure kernels of examples against the reference's, which makes a pass for every pair.

    Of the reference a few blocks are measured, and its time follows from theirs. Nothing is downloaded. Give the
    machine nothing else to do.

        shoestring bench kernels --model tiny-masked --examples 4,8 --tokens 12 --reference-blocks 0
    """
    lists = {"models": options.chosen(model, "--model"), "formulas": options.chosen(formula, "--formula")}
    counts = [int(part) if part.isdecimal() else 0 for part in options.chosen(examples, "--examples")]
    if 0 in counts:
        raise typer.BadParameter(f"--examples: {examples!r} is not of the form 16,32, of numbers from 1 on")
    check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.bench.gram import bench_kernels
        from shoestring.bench.gram_settings import GramSettings
        from shoestring.cli.gram_tables import print_gram_report
    settings = GramSettings.model_validate(
        {
            **lists,
            "examples": counts,
            "tokens": tokens,
            "batch_size": batch_size,
            "memory": memory,
            "scratch": scratch,
            "reference_rows": reference_rows,
            "reference_columns": reference_columns,
            "reference_blocks": reference_blocks,
            "rounds": rounds,
            "threads": threads_of(threads),
            "device": device,
        }
    )
    print_gram_report(measured(bench_kernels, settings, kernels_command_of(settings), out), format_)


def kernels_command_of(settings: GramSettings) -> str:
    """Return the command that measures the same kernels again, every option said."""
    said: dict[str, object] = {
        "model": ",".join(settings.models),
        "formula": ",".join(settings.formulas),
        "examples": ",".join(map(str, settings.examples)),
        "tokens": settings.tokens,
        "batch-size": settings.batch_size,
        "memory": settings.memory,
        "reference-rows": settings.reference_rows,
        "reference-columns": settings.reference_columns,
        "reference-blocks": settings.reference_blocks,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "device": settings.device,
    }
    return command_line("kernels", said, "--scratch" if settings.scratch else "--no-scratch")


@bench.command("tuning")
def tuning(  # noqa: PLR0913 - typer reads the options from here
    model: Models = "opt-125m,roberta-base",
    dtype: DTypes = "float32",
    tuning: Tunings = "apet,lora,full",
    batch_size: Examples = 16,
    tokens: Tokens = 40,
    candidates: Candidates = 2,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "cpu",
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Measure training steps of tunings, with AdamW, against the forward and backward pass alone.

    Nothing is downloaded. Give the machine nothing else to do.

        shoestring bench tuning --model roberta-base --tuning apet --out bench.json
    """
    lists = {"models": options.chosen(model, "--model"), "tunings": options.chosen(tuning, "--tuning")}
    lists |= {"dtypes": options.chosen(dtype, "--dtype", DTYPES)}
    check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.bench.settings import Workload
        from shoestring.bench.tuning import TuningBenchSettings, bench_tuning
        from shoestring.cli.bench_tuning_table import print_tuning_report
    count = threads_of(threads)
    work = Workload(batch_size=batch_size, tokens=tokens, candidates=candidates)
    settings = TuningBenchSettings.model_validate(
        {**lists, "workload": work, "rounds": rounds, "threads": count, "device": device}
    )
    said = {"model": model, "dtype": dtype, "tuning": tuning, "batch-size": batch_size, "tokens": tokens}
    said |= {"candidates": candidates, "rounds": rounds, "threads": count, "device": device}
    print_tuning_report(measured(bench_tuning, settings, command_line("tuning", said), out), format_)


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
        **({} if work.shortest is None else {"shortest": work.shortest}),
        "candidates": work.candidates,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "device": settings.device,
        "noise-elements": settings.noise_elements,
    }
    return command_line("zeroth", said)
