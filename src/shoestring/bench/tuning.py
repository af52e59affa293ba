"""The benchmark of tunings: a training step against the forward and backward pass alone."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from shoestring.bench.peaks import measured_by, peak_of
from shoestring.bench.settings import Device, DType, Names, Timed, Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.timing import Racer, race, threads
from shoestring.bench.work import Work, check, prepare
from shoestring.config import Settings
from shoestring.errors import ModelError, ShoestringError
from shoestring.memory import PeakMemory
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.environment import environment
from shoestring.runs.record import now
from shoestring.tuning.base import TUNINGS

FLOOR, FROZEN = "forward + backward", "weights frozen"
LIMIT = 1.10
_WITH_GOALS = ("opt-125m", "roberta-base")  # 4,096 weights are few of these
_STEPS = 2  # the first makes the optimizer's state


class TuningBenchSettings(Settings):
    """What is measured, and how often."""

    models: Names = ("opt-125m", "roberta-base")
    """Shapes, of `shoestring.bench.shapes.SHAPES`."""
    dtypes: tuple[DType, ...] = Field(default=("float32",), min_length=1)
    tunings: Names = ("apet", "lora", "full")
    """Registered tunings, with their defaults: APET's budget is 4,096."""
    workload: Workload = Workload()
    rounds: int = Field(default=5, ge=1)
    """Rounds that are counted, after one that is not."""
    threads: int = Field(default=1, ge=1)
    """Processor threads."""
    device: Device = "cpu"


class TuningRow(Settings):
    """One kind of step: a bare forward and backward pass, or a step of AdamW on what a tuning trains."""

    model: str
    dtype: DType
    step: str
    """`forward + backward` with gradients of all weights, the same with `weights frozen`, or a tuning."""
    refused: str | None = None
    """Why the model cannot have the tuning, where that is so: then there are no figures."""
    trained: int | None = None
    """Weights that are trained."""
    time: Timed | None = None
    of_floor: float | None = None
    """Median over that of the bare forward and backward pass."""
    of_frozen: float | None = None
    """Median over that of the pass with frozen weights, where the backward pass makes gradients of activations only."""
    peak: int | None = None
    """Peak bytes above the weights, optimizer state included."""
    peak_of_floor: float | None = None
    peak_of_frozen: float | None = None

    @property
    def goals(self) -> dict[str, bool]:
        """Whether masked training of a few weights costs at most a tenth more than the pass alone, by figure."""
        if self.step != "apet" or self.model not in _WITH_GOALS:
            return {}
        figures = {name: getattr(self, name) for name in ("of_floor", "of_frozen", "peak_of_floor", "peak_of_frozen")}
        return {name: value <= LIMIT for name, value in figures.items() if value is not None}


class TuningReport(Settings):
    """One benchmark: settings, machine, figures."""

    format: Literal[1] = 1
    command: str
    started: str
    seconds: float
    settings: TuningBenchSettings
    environment: dict[str, Any]
    memory_by: str
    """How peaks of memory were measured."""
    weights: dict[str, int]
    """Bytes of the weights, by model and dtype."""
    rows: tuple[TuningRow, ...]


def bench_tuning(settings: TuningBenchSettings, command: str = "", progress: Progress | None = None) -> TuningReport:
    """Measure training steps, in turn.

    Raises:
        UnknownNameError: if there is no such shape or tuning.
        ModelError: if there is no such device, or a model cannot read prompts of this length.
    """
    for name in settings.models:
        check(shape_named(name), settings.workload)
    for name in settings.tunings:
        TUNINGS.get(name)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': this machine has no CUDA device; use cpu")
    device, progress = torch.device(settings.device), progress or Silent()
    begun, clock = now(), time.perf_counter()
    rows: list[TuningRow] = []
    weights: dict[str, int] = {}
    with threads(settings.threads):
        for name in settings.models:
            for dtype in settings.dtypes:
                work = prepare(shape_named(name), dtype, settings.workload, device)
                weights[f"{name} {dtype}"] = work.weights
                steps = 2 + len(settings.tunings)
                with progress.bar(f"{name} {dtype}", (2 + settings.rounds) * steps) as bar:
                    rows += _rows(work, dtype, settings, bar)
                del work
                gc.collect()
    return TuningReport(
        command=command,
        started=begun,
        seconds=time.perf_counter() - clock,
        settings=settings,
        environment=environment(device),
        memory_by=measured_by(device),
        weights=weights,
        rows=tuple(rows),
    )


class TrainingStep:
    """A forward and a backward pass, and a step of AdamW where something is tuned."""

    cycle = 1

    def __init__(self, work: Work, step: str) -> None:
        self.work = _sharing(work)
        model = self.work.model
        self.optimizer: torch.optim.Optimizer | None = None
        if step == FLOOR:
            model.requires_grad_(True)
        elif step == FROZEN:
            model.requires_grad_(False)
            model.enable_input_require_grads()
        else:
            model = TUNINGS.get(step)().apply(model, 0)
            trained = [param for param in model.parameters() if param.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=0.0)  # the weights are those of all contestants
            self.work = replace(self.work, model=model)
        self.trained = sum(param.numel() for param in model.parameters() if param.requires_grad)

    def step(self) -> None:
        """Make one."""
        self.work.model.zero_grad(set_to_none=True)
        self.work.loss().backward()
        if self.optimizer is not None:
            self.optimizer.step()

    def finish(self) -> None:
        """Let go of gradients."""
        self.work.model.zero_grad(set_to_none=True)


def _rows(work: Work, dtype: DType, settings: TuningBenchSettings, bar: Bar) -> Iterator[TuningRow]:
    racers: dict[str, TrainingStep] = {}
    refused: dict[str, str] = {}
    for step in (FLOOR, FROZEN, *settings.tunings):
        try:
            racers[step] = TrainingStep(work, step)
        except ShoestringError as error:
            refused[step] = str(error)
    device = work.model.device
    times = dict(
        zip(racers, race([_started(one) for one in racers.values()], settings.rounds, device, bar), strict=True)
    )
    peaks = {step: _peak(one, device) for step, one in racers.items()}
    bar.advance(len(racers) + (2 + settings.rounds) * len(refused))
    for step in (FLOOR, FROZEN, *settings.tunings):
        row = TuningRow(model=work.shape.name, dtype=dtype, step=step, refused=refused.get(step))
        if step in racers:
            took, peak = times[step], peaks[step]
            figures = {"trained": racers[step].trained, "time": took, "peak": peak}
            figures |= {f"of_{name}": took.median / times[bare].median for name, bare in _BARE.items()}
            figures |= {f"peak_of_{name}": peak / max(1, peaks[bare]) for name, bare in _BARE.items()}
            row = row.model_copy(update=figures)
        yield row


_BARE = {"floor": FLOOR, "frozen": FROZEN}


def _started(racer: TrainingStep) -> Callable[[], Racer]:
    return lambda: racer


def _peak(racer: TrainingStep, device: torch.device) -> int:
    """Return the peak bytes of steps above what is held before them; what is made in the first one is of the step."""
    racer.finish()
    if racer.optimizer is not None:
        racer.optimizer.state.clear()

    def steps() -> None:
        for _ in range(_STEPS):
            racer.step()
        racer.finish()

    if device.type == "cpu":
        return peak_of(steps)
    memory = PeakMemory(device)
    with memory.lap("steps"):
        steps()
    return memory.bytes["steps"]


def _sharing(work: Work) -> Work:
    """Return the work with a model of its own whose weights are the same memory; ties are kept."""
    memo: dict[int, Any] = {id(param): nn.Parameter(param.data) for param in work.model.parameters()}
    return replace(work, model=copy.deepcopy(work.model, memo))
