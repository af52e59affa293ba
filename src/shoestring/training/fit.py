"""Train a prompted model step by step, resuming where an interrupted training stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.models.quiet import quiet
from shoestring.progress import Progress, Silent
from shoestring.seeds import derive, isolated
from shoestring.training.callbacks import LogLine, Meter, Report
from shoestring.training.trainer import Job, PromptTrainer, ZerothTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        steps: optimizer steps made.
        selected_step: the step whose weights the model now has.
        seconds: time spent training, evaluations on dev and earlier, interrupted attempts included.
        resumed_from: the step an interrupted training was taken up at; 0 for a fresh one.
    """

    steps: int
    selected_step: int
    seconds: float
    resumed_from: int = 0


def train(job: Job, *, log: Callable[[LogLine], None], progress: Progress | None = None) -> Fitted:
    """Train `job.subject.model` in place and leave the selected weights in it.

    Checkpoints go to `job.folder`, one best and one last; an interrupted training goes on from the last complete one
    and ends with the same weights, bit for bit, on the same machine. The global random states are left as they were.

    Raises:
        NonFiniteLossError: if the loss stops being finite; the last checkpoint stays on disk.
    """
    from transformers import EarlyStoppingCallback

    settings = job.settings
    checkpoint = last_checkpoint(job.folder)
    label = f"{job.subject.task.name}: {settings.model_dump()['kind']}"
    with (
        (progress or Silent()).bar(label, settings.steps) as bar,
        isolated(derive(job.seed, "training")),
        quiet(),
        _cleared(job.subject.model),
    ):
        meter = Meter(job.subject.passes, job.memory, checkpoint)
        callbacks = [Report(log, bar), meter]
        if settings.patience is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=settings.patience))
        trainer = (PromptTrainer if settings.needs_backward else ZerothTrainer)(job, callbacks)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    steps = trainer.state.global_step
    best = trainer.state.best_global_step if settings.select != "last" else steps
    return Fitted(steps, best or steps, meter.seconds, step_of(checkpoint) if checkpoint is not None else 0)


@contextmanager
def _cleared(model: PreTrainedModel) -> Iterator[None]:
    """Leave the model in eval mode, without gradients, and without what the Trainer and accelerate note on it."""
    cached = getattr(model.config, "use_cache", None)
    try:
        yield
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        vars(model).pop("_is_accelerate_prepared", None)
        if cached is not None:
            model.config.use_cache = cached


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`; half-written ones are removed.

    A checkpoint is whole when it has the meter's file, which is written last.
    """
    complete = []
    for path in sorted(folder.glob("checkpoint-*"), key=step_of):
        try:
            json.loads((path / Meter.file).read_text(encoding="utf-8"))
            complete.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return complete[-1] if complete else None


def step_of(checkpoint: Path) -> int:
    """Return the step a checkpoint folder was saved at, -1 if its name does not say."""
    tail = checkpoint.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1
