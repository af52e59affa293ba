"""What a figure is made of: panels of series of points, and the axes they stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.tables.table import LOSS, MIB, title

if TYPE_CHECKING:
    from shoestring.runs.record import Record


@dataclass(frozen=True)
class Axis:
    """A horizontal axis.

    Attributes:
        name: what the command line calls it.
        title: what stands under it.
        log: whether equal distances are equal ratios.
    """

    name: str
    title: str
    log: bool


@dataclass(frozen=True)
class Cost(Axis):
    """An axis of something that a run costs; None where a record does not say."""

    of: Callable[[Record], float | None]


@dataclass(frozen=True)
class Point:
    """A mean over seeds; `sd` is the population standard deviation, None of one number."""

    x: float
    y: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Series:
    """Points of one row of the table.

    Attributes:
        label: what tells it from the others.
        style: its number among the table's rows: the same in every figure.
        backward: whether its runs made backward passes.
        points: in order of x.
        rate: forward passes of a step, in examples, where its runs made steps.
    """

    label: str
    style: int
    backward: bool
    points: tuple[Point, ...]
    rate: float | None = None


@dataclass(frozen=True)
class Line:
    """A value to compare with, drawn from side to side."""

    label: str
    y: float
    sd: float | None = None


@dataclass(frozen=True)
class Panel:
    """One task, or one of its test sets.

    Attributes:
        title: which.
        y: what stands beside the vertical axis.
        scale: what values are multiplied by to be shown, 100 or 1.
        series: one for each row of the table that has something to show.
        lines: values to compare with.
    """

    title: str
    y: str
    scale: int
    series: tuple[Series, ...]
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Panels over one axis; `joined` says whether points are joined and spreads drawn as bands."""

    x: Axis
    panels: tuple[Panel, ...]
    joined: bool
    notes: tuple[str, ...] = ()


def forward_passes(record: Record) -> float | None:
    """Return the forward passes of fitting, in examples."""
    return None if record.passes is None else record.passes.forward_examples


COSTS: dict[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost("forward-passes", "forward passes while fitting, in examples", log=True, of=forward_passes),
        Cost("seconds", "seconds of fitting", log=True, of=lambda record: record.seconds.get("fit")),
        Cost(
            "memory",
            "peak MiB above the weights",
            log=True,
            of=lambda record: None if record.memory is None else record.memory.peak / MIB,
        ),
        Cost(
            "weights",
            "trained weights",
            log=True,
            of=lambda record: None if record.weights is None else record.trained_weights,
        ),
    )
}
STEPS = Axis("steps", "optimizer steps", log=False)
AXES = (*COSTS, STEPS.name)


def scale_of(metric: str) -> int:
    """Return what a metric is multiplied by where it is shown, as in tables."""
    return 1 if metric == LOSS else 100


def named(metric: str, where: str) -> str:
    """Return what stands beside an axis of a metric."""
    return f"{title(metric)} on {where}{'' if metric == LOSS else ' x 100'}"
