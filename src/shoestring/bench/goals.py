"""The figures to reach, and which rows they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shoestring.bench.settings import BenchSettings, Goal, KernelRow, StepRow, Workload


@dataclass(frozen=True)
class _Limits:
    gaussian: float
    """Most that a step with Gaussian directions may take, in times of two bare forwards."""
    speedup: float
    """Least that the reference's step must take, in times of ours."""


# For two-forward steps on a processor, with the batch these were set for; see docs/benchmarks.md.
_STEPS: Mapping[tuple[str, str], _Limits] = {
    ("opt-125m", "float32"): _Limits(1.15, 4.0),
    ("opt-125m", "bfloat16"): _Limits(1.35, 5.5),
    ("roberta-base", "float32"): _Limits(1.15, 2.7),
    ("roberta-base", "bfloat16"): _Limits(1.35, 4.0),
}
_STRUCTURED = 1.10  # directions other than Gaussian
_TWO_FORWARDS = ("mezo", "lozo")
_PEAKS: Mapping[tuple[str, str], float] = {("mezo", "paired"): 0.03, ("hizoo-l", "paired"): 0.10}
_KERNELS: Mapping[str, float] = {"gaussian": 4.0, "rademacher": 15.0}


def step_goals(row: StepRow, settings: BenchSettings) -> tuple[Goal, ...]:
    """Return the goals of a row with figures; rows of other models, batches or devices have none."""
    limits = _STEPS.get((row.model, row.dtype))
    if limits is None or settings.device != "cpu" or settings.workload != Workload() or row.closure != "per-example":
        return ()
    return tuple(_steps(row, limits))


def kernel_goals(row: KernelRow, settings: BenchSettings) -> tuple[Goal, ...]:
    """Return the goal of adding noise on a processor, which is about the fast backend."""
    if settings.device != "cpu" or row.operation != "add" or row.backend.startswith("torch"):
        return ()
    limit = _KERNELS[row.distribution or "gaussian"]
    return (Goal(what="speedup", limit=limit, reached=row.speedup >= limit),)


def _steps(row: StepRow, limits: _Limits) -> Iterator[Goal]:
    if row.step in _TWO_FORWARDS and row.of_floor is not None and row.speedup is not None:
        most = limits.gaussian if row.step == "mezo" and row.directions == "gaussian" else _STRUCTURED
        yield Goal(what="of_floor", limit=most, reached=row.of_floor <= most)
        yield Goal(what="speedup", limit=limits.speedup, reached=row.speedup >= limits.speedup)
    share = _PEAKS.get((row.step, row.engine or ""))
    if share is not None and row.own_share is not None:
        yield Goal(what="own_share", limit=share, reached=row.own_share < share)
