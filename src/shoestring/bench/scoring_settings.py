"""What the benchmark of scoring measures, and what it reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from shoestring.bench.settings import Device, DType, Goal, Timed
from shoestring.config import Settings

Case = Literal["zero-shot", "common demonstrations", "own demonstrations", "forward", "backward"]
TRAINING: tuple[Case, ...] = ("forward", "backward")


class Prompting(Settings):
    """Prompts and candidates, of random tokens."""

    examples: int = Field(default=128, ge=1)
    """Examples that are evaluated zero-shot and with common demonstrations."""
    tokens: int = Field(default=30, ge=4)
    """Tokens of an example, on average: they are spread evenly over half of that around it."""
    candidates: int = Field(default=2, ge=2)
    """Candidate answers of an example that is evaluated."""
    candidate_tokens: int = Field(default=1, ge=1)
    """Tokens of each of them."""
    shots: int = Field(default=32, ge=1)
    """Demonstrations."""
    shot_tokens: int = Field(default=46, ge=1)
    """Tokens of a demonstration."""
    own: int = Field(default=2, ge=1)
    """Examples that are evaluated with demonstrations of their own."""


class Batches(Settings):
    """Batches that are trained on, of prompts of equal length."""

    batch_size: int = Field(default=8, ge=1)
    """Examples."""
    tokens: int = Field(default=64, ge=4)
    """Tokens of a prompt."""
    candidates: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (2, 3, 6)
    """Candidate answers of an example: a batch for each number."""
    candidate_tokens: int = Field(default=2, ge=1)
    """Tokens of each of them."""


class ScoringSettings(Settings):
    """What is measured, and how often."""

    model: str = "opt-125m"
    """A causal shape, of `shoestring.bench.shapes.SHAPES`."""
    dtype: DType = "float32"
    prompting: Prompting = Prompting()
    training: Batches = Batches()
    rounds: int = Field(default=3, ge=1)
    """Rounds that are counted, after one that is not."""
    threads: int = Field(default=1, ge=1)
    """Processor threads."""
    device: Device = "cpu"


class ScoringRow(Settings):
    """One case: seconds an example, of the reference and ours."""

    case: Case
    candidates: int
    tokens: int
    """Tokens of the longest prompt."""
    reference: Timed
    ours: Timed
    speedup: float
    """The reference's median over ours."""
    difference: float
    """Largest difference of scores (of losses, in training) between the two, over 1 + |score|."""
    goals: tuple[Goal, ...] = ()


class ScoringReport(Settings):
    """One benchmark: settings, machine, figures."""

    format: Literal[1] = 1
    command: str
    started: str
    seconds: float
    settings: ScoringSettings
    environment: dict[str, Any]
    rows: tuple[ScoringRow, ...]


_GOALS: dict[Case, float] = {"zero-shot": 4.0, "common demonstrations": 30.0, "own demonstrations": 2.5}
_TRAINING = {2: 1.8, 3: 2.6, 6: 4.5}


def scoring_goals(row: ScoringRow, settings: ScoringSettings) -> tuple[Goal, ...]:
    """Return the goal of a row; there is one for the model and the sizes that goals were set for, on a processor."""
    defaults = ScoringSettings()
    same = all(getattr(settings, name) == getattr(defaults, name) for name in ("model", "dtype", "prompting", "device"))
    trained = settings.training.model_copy(update={"candidates": defaults.training.candidates})
    if not same or trained != defaults.training:
        return ()
    limit = _TRAINING.get(row.candidates) if row.case in TRAINING else _GOALS.get(row.case)
    return () if limit is None else (Goal(what="speedup", limit=limit, reached=row.speedup >= limit),)
