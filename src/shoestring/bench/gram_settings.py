"""What the benchmark of kernels measures, and what it reports."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shoestring.bench.settings import Device, Names, Timed
from shoestring.config import Settings

FORMAT = 1


class GramSettings(Settings):
    """What is measured, and how often."""

    models: Names = ("roberta-base",)
    """Shapes, of `shoestring.bench.shapes.SHAPES`."""
    formulas: Names = ("sgd", "asymmetric-signgd", "signgd")
    """Registered formulas that the reference has."""
    examples: tuple[int, ...] = Field(default=(16, 32, 64), min_length=1)
    """Rows, and as many columns, of each kernel."""
    tokens: int = Field(default=128, ge=4)
    """Tokens of a prompt."""
    batch_size: int = Field(default=4, ge=1)
    """Examples that go through the model at once, here."""
    memory: int = Field(default=1024, ge=1)
    """MiB that may be held here beyond one batch's passes."""
    scratch: bool = True
    """Whether captured gradients wait in a file, in the system's folder for temporary ones, rather than in memory."""
    reference_rows: int = Field(default=2, ge=1)
    """Rows of a block of the reference."""
    reference_columns: int = Field(default=4, ge=1)
    """Columns of a block of the reference."""
    reference_blocks: int = Field(default=1, ge=0)
    """Blocks of the reference that are measured, of which the others' time follows; 0 for all."""
    rounds: int = Field(default=1, ge=1)
    """Rounds that are counted."""
    threads: int = Field(default=1, ge=1)
    """Processor threads."""
    device: Device = "cpu"


class GramGoal(Settings):
    """A figure to reach."""

    what: Literal["speedup", "memory"]
    limit: float
    reached: bool

    @property
    def text(self) -> str:
        """The goal in words: `>= 15: yes`."""
        sign = ">=" if self.what == "speedup" else "<="
        return f"{sign} {self.limit:g}: {'yes' if self.reached else 'NO'}"


class GramRow(Settings):
    """One formula's kernel of some examples and as many others, both ways."""

    model: str
    formula: str
    examples: int
    """N = M."""
    time: Timed
    """Ours, whole."""
    reference: Timed
    """The reference's, whole."""
    measured: float
    """Share of the reference's blocks that was measured; the time of the others follows from that."""
    speedup: float
    """The reference's median over ours."""
    processor: float
    """The reference's processor seconds over ours, medians: the fairer ratio where the machine does other work too."""
    peak: int
    """Our peak bytes above what is held before."""
    reference_peak: int
    """The reference's, of the blocks that were measured."""
    passes: int
    """Our passes of one example through the model, forward and backward."""
    difference: float
    """Largest difference between both kernels, over the largest entry, of the blocks that were measured."""
    goals: tuple[GramGoal, ...] = ()


class Growth(Settings):
    """How time grows from the fewest examples to the most."""

    model: str
    formula: str
    examples: tuple[int, int]
    ours: float
    """Median with the most over that with the fewest."""
    reference: float


class GramReport(Settings):
    """One benchmark: settings, machine, figures."""

    format: Literal[1] = FORMAT
    command: str
    started: str
    seconds: float
    settings: GramSettings
    environment: dict[str, Any]
    memory_by: str
    """How peaks of memory were measured."""
    rows: tuple[GramRow, ...]
    growth: tuple[Growth, ...]
