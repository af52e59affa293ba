"""What a benchmark measures, and what it reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from shoestring.config import Settings

FORMAT = 1
FLOOR, QUICK_FLOOR, REFERENCE = "floor", "quick floor", "reference"
DType = Literal["float32", "bfloat16", "float16"]
Closure = Literal["per-example", "plain"]
Device = Literal["cpu", "cuda"]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


def _engines() -> tuple[str, ...]:
    from shoestring.zeroth.engines.base import ENGINES

    return tuple(ENGINES.names())


class Workload(Settings):
    """One batch of prompts, candidates of one token each."""

    batch_size: int = Field(default=16, ge=1)
    """Examples."""
    tokens: int = Field(default=40, ge=4)
    """Tokens of a prompt; of the longest one, where they differ."""
    shortest: int | None = Field(default=None, ge=4)
    """Tokens of the shortest prompt, lengths lie evenly between; None: all prompts are of equal length."""
    candidates: int = Field(default=2, ge=2)
    """Candidate answers of an example."""


class BenchSettings(Settings):
    """What is measured, and how often."""

    models: Names = ("opt-125m", "roberta-base")
    """Shapes, of `shoestring.bench.shapes.SHAPES`."""
    dtypes: tuple[DType, ...] = Field(default=("float32", "bfloat16"), min_length=1)
    directions: Names = ("gaussian", "rademacher")
    """Registered directions."""
    engines: Names = Field(default_factory=_engines)
    """Registered engines; every one there is, unless said otherwise."""
    optimizers: Names = ("mezo",)
    """Registered optimizers."""
    closures: tuple[Closure, ...] = Field(default=("per-example", "plain"), min_length=1)
    """How the loss is given: example by example, so that an engine may repeat the batch, or as one number."""
    workload: Workload = Workload()
    rounds: int = Field(default=5, ge=1)
    """Rounds that are counted, after one that is not."""
    threads: int = Field(default=1, ge=1)
    """Processor threads."""
    device: Device = "cpu"
    noise_elements: int = Field(default=1 << 24, ge=1)
    """Elements of the tensor that the noise kernels are measured on."""


class Goal(Settings):
    """A figure to reach."""

    what: Literal["of_floor", "speedup", "own_share", "outside_matrix"]
    """The field of the row that it is about."""
    limit: float
    reached: bool

    @property
    def text(self) -> str:
        """The goal in words: `<= 1.15: yes`."""
        sign = ">=" if self.what == "speedup" else "<="
        limit = f"{self.limit:.0%}" if self.what == "own_share" else f"{self.limit:g}"
        return f"{sign} {limit}: {'yes' if self.reached else 'NO'}"


class Timed(Settings):
    """Seconds of every round, and what is made of them."""

    seconds: tuple[float, ...]
    median: float
    iqr: float
    """Distance of the quartiles."""


class StepRow(Settings):
    """A way to make a step: `floor` (two bare forwards), `reference`, or an optimizer."""

    model: str
    dtype: DType
    step: str
    directions: str | None = None
    engine: str | None = None
    closure: Closure | None = None
    refused: str | None = None
    """Why it cannot be done, where that is so: this combination has no figures."""
    warned: tuple[str, ...] = ()
    """What was logged as a warning while it made its first steps, such as an engine that gives way to another."""
    forwards: float | None = None
    """Forward passes of the batch a step makes, in examples over the batch's examples."""
    time: Timed | None = None
    of_floor: float | None = None
    """Median over that of two bare forwards of the same deduplicated batch."""
    of_forwards: float | None = None
    """Median over that of as many bare forwards as the step makes."""
    speedup: float | None = None
    """The reference step's median over this one."""
    peak: int | None = None
    """Peak bytes above what is held before the step, the optimizer's state included."""
    peak_share: float | None = None
    """Peak bytes above one bare forward's peak, as a share of the bytes of the weights."""
    own_share: float | None = None
    """The same above the peak of one bare forward of as many rows as a pass of the step has."""
    outside_matrix: float | None = None
    """Share of the step's time outside matrix products and attention; on CUDA."""
    goals: tuple[Goal, ...] = ()


class KernelRow(Settings):
    """A noise kernel, or what it is compared with."""

    backend: str
    """`torch.normal`, `copy`, or a noise backend's name."""
    operation: str
    """`fill`, `add`, `add, rounded` (stochastically), `points` (both ends of one direction), or `copy`."""
    distribution: str | None
    dtype: DType
    elements: int
    time: Timed
    rate: float
    """Million elements a second and thread."""
    bandwidth: float
    """Bytes a second read and written, weights and results only."""
    speedup: float
    """Rate over that of `torch.normal` followed by `add_`."""
    of_copy: float
    """Bandwidth over that of a copy."""
    goals: tuple[Goal, ...] = ()


class Report(Settings):
    """One benchmark: settings, machine, figures."""

    format: Literal[1] = FORMAT
    command: str
    started: str
    seconds: float
    settings: BenchSettings
    environment: dict[str, Any]
    memory_by: str
    """How peaks of memory were measured."""
    weights: dict[str, int]
    """Bytes of the weights, by model and dtype."""
    steps: tuple[StepRow, ...]
    kernels: tuple[KernelRow, ...]
