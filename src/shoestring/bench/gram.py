"""The benchmark of kernels."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor

from shoestring.bench.gram_reference import FORMULAS as REFERENCE_FORMULAS
from shoestring.bench.gram_reference import ReferenceKernel, blocks
from shoestring.bench.gram_settings import GramGoal, GramReport, GramRow, GramSettings, Growth
from shoestring.bench.settings import Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.timing import lap, threads, timed
from shoestring.bench.work import Work, check, prepare
from shoestring.errors import ModelError, UnknownNameError
from shoestring.kernels import Kernel, KernelSettings, Outputs, Request, compute_kernels
from shoestring.memory import PeakMemory
from shoestring.models.batch import Batch
from shoestring.models.prompted import Passes
from shoestring.models.scoring import SCORERS, model_inputs
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.environment import environment
from shoestring.runs.record import now

T = TypeVar("T")
# For kernels of 32 examples and 32 others, 128 tokens, on a processor.
_GOALS = {"sgd": 15.0, "asymmetric-signgd": 10.0, "signgd": 5.0}
_EXAMPLES, _TOKENS, _MODEL = 32, 128, "roberta-base"


def bench_kernels(settings: GramSettings, command: str = "", progress: Progress | None = None) -> GramReport:
    """Measure kernels of examples and as many others, ours and the reference's, in turn.

    Raises:
        UnknownNameError: if there is no such shape, or the reference has no such formula.
        ModelError: if there is no such device, or a model cannot read prompts of this length.
    """
    check_gram_settings(settings)
    device = torch.device(settings.device)
    begun, clock = now(), time.perf_counter()
    rows: list[GramRow] = []
    with threads(settings.threads):
        for name in settings.models:
            steps = 2 * settings.rounds * len(settings.examples) * len(settings.formulas)
            with (progress or Silent()).bar(f"kernels {name}", steps) as bar:
                rows += _measured(name, settings, bar)
            gc.collect()
    return GramReport(
        command=command,
        started=begun,
        seconds=time.perf_counter() - clock,
        settings=settings,
        environment=environment(device),
        memory_by=PeakMemory(device).how,
        rows=tuple(rows),
        growth=tuple(_growth(rows)),
    )


def check_gram_settings(settings: GramSettings) -> None:
    """Check that all that is asked for exists, before anything is measured.

    Raises:
        UnknownNameError: if there is no such shape, or the reference has no such formula.
        ModelError: if there is no such device, or a model cannot read prompts of this length.
    """
    for name in settings.formulas:
        if name not in REFERENCE_FORMULAS:
            raise UnknownNameError("formula of the reference", name, REFERENCE_FORMULAS)
    for name in settings.models:
        check(shape_named(name), Workload(batch_size=1, tokens=settings.tokens))
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': this machine has no CUDA device; use cpu")


def _measured(name: str, settings: GramSettings, bar: Bar) -> Iterator[GramRow]:
    most = 2 * max(settings.examples)
    workload = Workload(batch_size=most, tokens=settings.tokens)
    work = prepare(shape_named(name), "float32", workload, torch.device(settings.device))
    match = _Match(work, settings, bar, PeakMemory(work.model.device))
    for formula in settings.formulas:
        for count in settings.examples:
            yield match.row(formula, count)


@dataclass(frozen=True)
class _Cost:
    """Seconds by the clock, and those that processors worked."""

    seconds: float
    processor: float

    def plus(self, other: _Cost) -> _Cost:
        """Return the sum."""
        return _Cost(self.seconds + other.seconds, self.processor + other.processor)

    def times(self, factor: float) -> _Cost:
        """Return a multiple."""
        return _Cost(self.seconds * factor, self.processor * factor)


@dataclass(frozen=True)
class _Match:
    """Both ways to make kernels of one model."""

    work: Work
    settings: GramSettings
    bar: Bar
    memory: PeakMemory

    def row(self, formula: str, count: int) -> GramRow:
        """Return the figures of one kernel."""
        columns = range(max(self.settings.examples), max(self.settings.examples) + count)
        ours, theirs, peaks, other_peaks = list[_Cost](), list[_Cost](), [0], [0]
        passes, measured, difference = 0, 1.0, 0.0
        for _ in range(self.settings.rounds):
            outputs = self._outputs()
            request = Request(outputs, range(count), columns, (formula,))
            how = KernelSettings(batch_size=self.settings.batch_size, memory=self.settings.memory)
            cost, peak, kernels = self._lap(lambda r=request, h=how: self._compute(r, h)[formula].values)
            ours.append(cost)
            peaks.append(peak)
            passes = outputs.passes.forward_examples + outputs.passes.backward_examples
            self.bar.advance()
            cost, peak, (measured, found) = self._reference(formula, count, columns)
            theirs.append(cost)
            other_peaks.append(peak)
            difference = max(difference, _difference(found, kernels))
            self.bar.advance()
        one, other = (timed([cost.seconds for cost in costs]) for costs in (ours, theirs))
        used, others = (timed([cost.processor for cost in costs]).median for costs in (ours, theirs))
        row = GramRow(
            model=self.work.shape.name,
            formula=formula,
            examples=count,
            time=one,
            reference=other,
            measured=measured,
            speedup=other.median / one.median,
            processor=others / used,
            peak=max(peaks),
            reference_peak=max(other_peaks),
            passes=passes,
            difference=difference,
        )
        return row.model_copy(update={"goals": tuple(_goals(row, self.settings))})

    def _compute(self, request: Request, how: KernelSettings) -> dict[str, Kernel]:
        if not self.settings.scratch:
            return compute_kernels(request, how)
        with TemporaryDirectory() as folder:
            return compute_kernels(request, how, scratch=Path(folder))

    def _outputs(self) -> Outputs:
        scorer, batch, passes = SCORERS.get(self.work.shape.kind), self.work.batch, Passes()

        def scores(given: Batch) -> Tensor:
            passes.forward += 1
            passes.forward_examples += len(given["input_ids"])
            return scorer.scores(self.work.model, given)

        return Outputs(
            self.work.model,
            scores,
            lambda items: {name: value[list(items)] for name, value in batch.items()},
            difference=True,
            length=lambda _: self.settings.tokens,
            passes=passes,
        )

    def _reference(
        self, formula: str, count: int, columns: Sequence[int]
    ) -> tuple[_Cost, int, tuple[float, list[tuple[Sequence[int], Sequence[int], Tensor]]]]:
        """Return the cost of the whole kernel, the peak, the share that was measured, and the blocks."""
        kernel = ReferenceKernel(self.work.model, self._read)
        above = list(blocks(count, self.settings.reference_rows))
        beside = list(blocks(count, self.settings.reference_columns))
        left = self.settings.reference_blocks or len(above) * len(beside)
        wanted, found = left, []
        in_rows, in_blocks, peak, row_blocks = _Cost(0.0, 0.0), _Cost(0.0, 0.0), 0, 0
        for rows in above:
            if left == 0:
                break
            cost, high, made = self._lap(lambda r=rows: kernel.rows(formula, self._batch(r)))
            in_rows, peak, row_blocks = in_rows.plus(cost), max(peak, high), row_blocks + 1
            for place in beside[:left]:
                batch = self._batch([columns[number] for number in place])
                cost, high, part = self._lap(lambda m=made, b=batch: kernel.block(formula, m, b))
                in_blocks, peak = in_blocks.plus(cost), max(peak, high)
                found.append((rows, place, part))
            left -= min(left, len(beside))
            del made
        done = min(wanted, len(above) * len(beside))
        every = len(above) * len(beside)
        whole = in_rows.times(len(above) / row_blocks).plus(in_blocks.times(every / done))
        return whole, peak, (done / (len(above) * len(beside)), found)

    def _batch(self, items: Sequence[int]) -> Batch:
        return {name: value[list(items)] for name, value in self.work.batch.items()}

    def _read(self, run: Callable[[Batch], Any], batch: Batch) -> Tensor:
        """Return f_1 - f_0, read from logits at every position, as the reference's models do."""
        logits = run(model_inputs(self.work.model, batch)).logits
        rows = torch.arange(len(batch["position"]), device=logits.device)
        chosen = logits[rows, batch["position"]]
        if self.work.shape.kind == "causal":
            chosen = chosen.log_softmax(-1)
        scores = chosen.gather(1, batch["option_ids"][:, :, 0])
        return scores[:, 1:] - scores[:, :1]

    def _lap(self, work: Callable[[], T]) -> tuple[_Cost, int, T]:
        """Return the cost, the peak above what is held without either way, and what comes of it."""
        found: list[T] = []
        self.memory.release()
        self.memory.bytes.clear()
        begin = time.process_time()
        with self.memory.lap("all"):
            seconds = lap(lambda: found.append(work()), self.work.model.device)
        return _Cost(seconds, time.process_time() - begin), self.memory.bytes["all"], found[0]


def _difference(found: Sequence[tuple[Sequence[int], Sequence[int], Tensor]], ours: Tensor) -> float:
    gaps = [(ours[list(rows)][:, :, list(columns)] - part).abs().max() for rows, columns, part in found]
    return float(torch.stack(gaps).max() / ours.abs().max())


def _goals(row: GramRow, settings: GramSettings) -> Iterator[GramGoal]:
    """Yield the goals of a row; rows of other models, sizes or devices have none."""
    if (row.model, row.examples, settings.tokens, settings.device) != (_MODEL, _EXAMPLES, _TOKENS, "cpu"):
        return
    limit = _GOALS[row.formula]
    yield GramGoal(what="speedup", limit=limit, reached=row.speedup >= limit)
    share = row.peak / row.reference_peak
    yield GramGoal(what="memory", limit=1.0, reached=share <= 1)


def _growth(rows: Sequence[GramRow]) -> Iterator[Growth]:
    for model, formula in dict.fromkeys((row.model, row.formula) for row in rows):
        own = sorted((row for row in rows if (row.model, row.formula) == (model, formula)), key=lambda r: r.examples)
        few, many = own[0], own[-1]
        if few.examples < many.examples:
            yield Growth(
                model=model,
                formula=formula,
                examples=(few.examples, many.examples),
                ours=many.time.median / few.time.median,
                reference=many.reference.median / few.reference.median,
            )
