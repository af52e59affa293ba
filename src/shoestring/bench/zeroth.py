"""The benchmark of zeroth-order steps."""

from __future__ import annotations

import gc
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from shoestring.bench.contestants import Contestant, contestants
from shoestring.bench.goals import kernel_goals, step_goals
from shoestring.bench.heard import Heard, listening
from shoestring.bench.kernels import laps, measure_kernels
from shoestring.bench.matrix import matrix_seconds
from shoestring.bench.peaks import forward_peak, measured_by, peak
from shoestring.bench.settings import BenchSettings, Report, StepRow, Timed
from shoestring.bench.shapes import shape_named
from shoestring.bench.timing import race, threads
from shoestring.bench.work import Work, check, prepare
from shoestring.errors import ModelError, ShoestringError
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.environment import environment
from shoestring.runs.record import now
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.directions.base import DIRECTIONS
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.noise import noise_for

_STEPS = 3  # of a turn, at most


def bench_zeroth(settings: BenchSettings, command: str = "", progress: Progress | None = None) -> Report:
    """Measure steps and noise kernels, in one run, in turn.

    Raises:
        UnknownNameError: if there is no such shape, optimizer, engine or family of directions.
        ModelError: if there is no such device, or a model cannot read prompts of this length.
    """
    check_settings(settings)
    progress, device = progress or Silent(), torch.device(settings.device)
    begun, clock = now(), time.perf_counter()
    weights: dict[str, int] = {}
    steps, kernels = [], []
    noise_for(torch.empty(0, device=device))  # Now: what it logs belongs to no contestant.
    with threads(settings.threads):
        how = measured_by(device)
        for name in settings.models:
            for dtype in settings.dtypes:
                who = list(contestants(settings))
                with listening() as heard, progress.bar(f"{name} {dtype}", (2 + settings.rounds) * len(who)) as bar:
                    work = prepare(shape_named(name), dtype, settings.workload, device)
                    weights[f"{name} {dtype}"] = work.weights
                    steps += _Match(work, dtype, settings, bar, heard).rows(who)
                    del work
                    gc.collect()
        for dtype in settings.dtypes:
            with progress.bar(f"noise {dtype}", laps(settings, dtype)) as bar:
                kernels += measure_kernels(settings, dtype, bar)
        machine = environment(device) | {"numba": _version("numba"), "triton": _version("triton")}
    return Report(
        command=command,
        started=begun,
        seconds=time.perf_counter() - clock,
        settings=settings,
        environment=machine,
        memory_by=how,
        weights=weights,
        steps=tuple(steps),
        kernels=tuple(row.model_copy(update={"goals": kernel_goals(row, settings)}) for row in kernels),
    )


def check_settings(settings: BenchSettings) -> None:
    """Check that all that is asked for exists, before anything is measured.

    Raises:
        UnknownNameError: if there is no such shape, optimizer, engine or family of directions.
        ModelError: if there is no such device, or a model cannot read prompts of this length.
    """
    asked = ((OPTIMIZERS, settings.optimizers), (ENGINES, settings.engines), (DIRECTIONS, settings.directions))
    for registry, names in asked:
        for name in names:
            registry.get(name)
    for name in settings.models:
        check(shape_named(name), settings.workload)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': this machine has no CUDA device; use cpu")


@dataclass(frozen=True)
class _Match:
    """All contestants on one model."""

    work: Work
    dtype: Any
    settings: BenchSettings
    bar: Bar
    heard: Heard

    def rows(self, who: Sequence[Contestant]) -> list[StepRow]:
        """Return the rows of all contestants, the refused ones at the end, without figures."""
        admitted, refused = [], []
        for one in who:
            try:
                admitted.append((one, *self._passes(one), self.heard.taken()))
            except ShoestringError as error:
                refused.append(self._row(one, refused=str(error)))
                for _ in range(1 + self.settings.rounds):
                    self.bar.advance()
            self.bar.advance()
        racing = [one for one, *_ in admitted]
        peaks = self._peaks(racing)
        device = self.work.model.device
        times = race([self._start(one) for one in racing], self.settings.rounds, device, self.bar, _STEPS)
        # Floor and reference come first, and nothing refuses them.
        floor, reference, baseline = times[0].median, times[1].median, peaks[0]
        forward = {most: forward_peak(self.work, most) for most in sorted({most for _, _, most, _ in admitted})}
        rows = []
        for (one, forwards, most, warned), time_, bytes_ in zip(admitted, times, peaks, strict=True):
            row = self._row(
                one,
                warned=warned,
                forwards=forwards,
                time=time_,
                of_floor=time_.median / floor,
                of_forwards=time_.median / (floor * forwards / 2),
                speedup=reference / time_.median,
                peak=bytes_,
                peak_share=(bytes_ - baseline) / self.work.weights,
                own_share=(bytes_ - forward[most]) / self.work.weights,
                outside_matrix=self._outside_matrix(one, time_),
            )
            rows.append(row.model_copy(update={"goals": step_goals(row, self.settings)}))
        return rows + refused

    def _start(self, one: Contestant) -> Callable[[], Any]:
        return lambda: one.start(self.work)

    def _passes(self, one: Contestant) -> tuple[float, int]:
        """Return the forward passes of a step, and most rows of one; the step before it compiles what is compiled."""
        racer = one.start(self.work)
        racer.step()
        before = racer.forwards
        racer.step()
        racer.finish()
        return racer.forwards - before, racer.rows

    def _peaks(self, racing: Sequence[Contestant]) -> list[int]:
        found = []
        for one in racing:
            found.append(peak(one, self.work))
            self.bar.advance()
        return found

    def _outside_matrix(self, one: Contestant, time_: Timed) -> float | None:
        if self.work.model.device.type != "cuda":
            return None
        racer = one.start(self.work)
        racer.step()
        inside = matrix_seconds(racer.step, self.work.model.device)
        racer.finish()
        return max(0.0, 1 - inside / time_.median)

    def _row(self, one: Contestant, **figures: Any) -> StepRow:
        names = {"directions": one.directions, "engine": one.engine, "closure": one.closure}
        return StepRow(model=self.work.shape.name, dtype=self.dtype, step=one.step, **names, **figures)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
