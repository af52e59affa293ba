"""What a run wants to hear from the training loop: log lines for its record, steps for its progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from shoestring.memory import PeakMemory
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Bar
from shoestring.training.checkpoints import Metered, read_meter, write_meter
from shoestring.training.running_loss import RunningLoss

LogLine = dict[str, float | int | str]


class Report(TrainerCallback):
    """Passes every logged value to `log` and every step to `bar`."""

    def __init__(self, log: Callable[[LogLine], None], bar: Bar) -> None:
        self._log, self._bar = log, bar

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar to where a resumed run goes on."""
        if state.global_step:
            self._bar.advance(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self._bar.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write one line; the loop's own summary at the end is left to the record."""
        if not logs or "train_runtime" in logs:
            return
        values = {_NAMES.get(name, name): value for name, value in logs.items() if name != "epoch"}
        self._log({"step": state.global_step, **values})
        if "loss" in logs:
            self._bar.note(f"loss {logs['loss']:.3f}")


class Meter(TrainerCallback):
    """Measures a training: passes, seconds and losses, also across interruptions, and the memory of its steps.

    Attributes:
        loss: the losses since the last line of the log.
    """

    def __init__(self, subject: PromptedModel, memory: PeakMemory, checkpoint: Path | None) -> None:
        self._subject, self._memory = subject, memory
        self._lap = ExitStack()
        self._before, self.loss = 0.0, RunningLoss()
        if checkpoint is not None:
            saved = read_meter(checkpoint)
            vars(subject.passes).update(vars(saved.passes))
            # Asked again with other weights, a model on the verge might go on in another way, and end elsewhere.
            subject.sharing.recall(subject.model, saved.ways)
            self._before, self.loss = saved.seconds, RunningLoss(*saved.unlogged)
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before interruptions included."""
        return self._before + time.perf_counter() - self._start

    def write(self, checkpoint: Path) -> None:
        """Note passes, seconds, losses and what is known of the model in a checkpoint."""
        subject = self._subject
        write_meter(checkpoint, Metered(subject.passes, self.seconds, self.loss.unlogged, subject.sharing.found))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin to watch memory: steps count, evaluations on dev and checkpoints do not."""
        self._lap.enter_context(self._memory.lap("fit"))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the step's peak."""
        self._lap.close()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Forget what the checkpoint took."""
        self._memory.release()


_NAMES = {"learning_rate": "lr"}
