"""`shoestring bench scoring`: how fast candidates are scored here."""

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

if TYPE_CHECKING:
    from shoestring.bench.scoring_settings import ScoringSettings

Model = Annotated[str, typer.Option(metavar="NAME", help="Shape of a causal model, with random weights.")]
DTypeName = Annotated[
    str, typer.Option(metavar="NAME", callback=options.one_of(DTYPES), help=f"Precision: {', '.join(DTYPES)}.")
]
Examples = Annotated[int, typer.Option(min=1, help="Examples, zero-shot and with common demonstrations.")]
Tokens = Annotated[int, typer.Option(min=4, help="Tokens of an example, on average.")]
Candidates = Annotated[int, typer.Option(min=2, help="Candidate answers of an example.")]
CandidateTokens = Annotated[int, typer.Option(min=1, help="Tokens of each of them.")]
Shots = Annotated[int, typer.Option(min=1, help="Demonstrations.")]
ShotTokens = Annotated[int, typer.Option(min=1, help="Tokens of a demonstration.")]
Own = Annotated[int, typer.Option(min=1, help="Examples with demonstrations of their own.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples of a training batch.")]
TrainTokens = Annotated[int, typer.Option(min=4, help="Tokens of its prompts.")]
TrainCandidates = Annotated[str, typer.Option(metavar="N,...", help="Candidate answers: a batch for each number.")]
TrainCandidateTokens = Annotated[int, typer.Option(min=1, help="Tokens of each of them.")]


def scoring(  # noqa: PLR0913 - typer reads the options from here
    model: Model = "opt-125m",
    dtype: DTypeName = "float32",
    examples: Examples = 128,
    tokens: Tokens = 30,
    candidates: Candidates = 2,
    candidate_tokens: CandidateTokens = 1,
    shots: Shots = 32,
    shot_tokens: ShotTokens = 46,
    own: Own = 2,
    batch_size: BatchSize = 8,
    train_tokens: TrainTokens = 64,
    train_candidates: TrainCandidates = "2,3,6",
    train_candidate_tokens: TrainCandidateTokens = 2,
    rounds: Rounds = 3,
    threads: Threads = None,
    device: Device = "cpu",
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Measure evaluation and training batches against one candidate at a time.

    Nothing is downloaded. Give the machine nothing else to do.

        shoestring bench scoring --model tiny --shots 4 --examples 8 --rounds 1
    """
    counts = [int(part) if part.isdecimal() else 0 for part in options.chosen(train_candidates, "--train-candidates")]
    if min(counts) < 2:
        raise typer.BadParameter(
            f"--train-candidates: {train_candidates!r} is not of the form 2,3, of numbers from 2 on"
        )
    check_place(out)
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.bench.scoring import bench_scoring
        from shoestring.bench.scoring_settings import ScoringSettings
        from shoestring.cli.scoring_table import print_scoring
    asked = {"examples": examples, "tokens": tokens, "candidates": candidates, "candidate_tokens": candidate_tokens}
    asked |= {"shots": shots, "shot_tokens": shot_tokens, "own": own}
    trained = {"batch_size": batch_size, "tokens": train_tokens, "candidates": counts}
    trained |= {"candidate_tokens": train_candidate_tokens}
    most = {"model": model, "dtype": dtype, "rounds": rounds, "threads": threads_of(threads), "device": device}
    settings = ScoringSettings.model_validate({**most, "prompting": asked, "training": trained})
    print_scoring(measured(bench_scoring, settings, command_of(settings), out), format_)


def command_of(settings: ScoringSettings) -> str:
    """Return the command that measures the same again, every option said."""
    asked, trained = settings.prompting, settings.training
    said: dict[str, object] = {
        "model": settings.model,
        "dtype": settings.dtype,
        **asked.model_dump(),
        "batch_size": trained.batch_size,
        "train_tokens": trained.tokens,
        "train_candidates": ",".join(map(str, trained.candidates)),
        "train_candidate_tokens": trained.candidate_tokens,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "device": settings.device,
    }
    return command_line("scoring", said)
