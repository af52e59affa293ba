"""Train a prompted model step by step, resuming where an interrupted training stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from shoestring.files import writing
from shoestring.models.quiet import quiet
from shoestring.progress import Progress, Silent
from shoestring.seeds import derive, isolated
from shoestring.training.callbacks import LogLine, Meter, Report
from shoestring.training.cheaper import checkpointing, take_off_mixed_precision
from shoestring.training.checkpoints import Fitted, Trained, find_trained, last_checkpoint, note_trained, step_of
from shoestring.training.trainer import Job, PromptTrainer, ZerothTrainer
from shoestring.training.trajectory import Recording

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train(job: Job, *, log: Callable[[LogLine], None], progress: Progress | None = None) -> Fitted:
    """Train `job.subject.model` in place and leave the selected weights in it.

    Checkpoints go to `job.folder`, one best and one last; an interrupted training goes on from the last complete one
    and ends with the same weights, bit for bit, on the same machine; one that had come to its end is not made again.
    The global random states are left as they were.

    Raises:
        NonFiniteLossError: if the loss stops being finite; the last checkpoint stays on disk.
    """
    done = find_trained(job.folder, job.settings)
    if done is not None:
        _load(job, done)
        return done.fitted
    checkpoint = last_checkpoint(job.folder)
    meter = Meter(job.subject, job.memory, checkpoint)
    label = f"{job.subject.task.name}: {job.settings.model_dump()['kind']}"
    with (
        (progress or Silent()).bar(label, job.settings.steps) as bar,
        isolated(derive(job.seed, "training")),
        quiet(),
        _cleared(job.subject.model),
        checkpointing(job.subject.model, wanted=getattr(job.settings, "gradient_checkpointing", False)),
        closing(Recording(job.folder, dict(job.about))) as recording,
    ):
        make = PromptTrainer if job.settings.needs_backward else ZerothTrainer
        trainer = make(job, meter, [Report(log, bar), recording])
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    steps = trainer.state.global_step
    best = trainer.state.best_global_step if job.settings.select != "last" else steps
    fitted = Fitted(steps, best or steps, meter.seconds, step_of(checkpoint) if checkpoint is not None else 0)
    with writing(job.folder):
        note_trained(job.folder, fitted, job.subject.passes)
    return fitted


def _load(job: Job, done: Trained) -> None:
    """Take the weights and the counts of a training that was over before the process that made it ended."""
    from accelerate import load_checkpoint_in_model

    with quiet():
        load_checkpoint_in_model(job.subject.model, str(done.checkpoint))
    vars(job.subject.passes).update(vars(done.passes))


@contextmanager
def _cleared(model: PreTrainedModel) -> Iterator[None]:
    """Leave the model in eval mode, without gradients, and without what the Trainer and accelerate note on it."""
    cached = getattr(model.config, "use_cache", None)
    try:
        yield
    finally:
        take_off_mixed_precision(model)
        model.eval()
        model.zero_grad(set_to_none=True)
        vars(model).pop("_is_accelerate_prepared", None)
        if cached is not None:
            model.config.use_cache = cached
