"""The log of a zeroth-order training, from which `shoestring replay` makes its weights again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from shoestring.errors import TrajectoryError
from shoestring.files import writing
from shoestring.training.settings import TRAJECTORY
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.trajectory import Recorder, Trajectory
from shoestring.zeroth.trajectory.engine import engine_at

_LOG = logging.getLogger(__name__)
_HALF = ("bfloat16", "float16")


class Recording(TrainerCallback):
    """Writes the log of a training into its folder; a resumed one is cut off at the checkpoint and goes on.

    Args:
        folder: of the training.
        about: what is said of it in the log: model, tuning, method, seed.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._path, self._about = folder / TRAJECTORY, about
        self._recorder: Recorder | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Module | None = None,
        optimizer: Optimizer | None = None,
        **_: Any,
    ) -> None:
        """Begin the log, or go on with the one that is there."""
        unwrapped = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        if not isinstance(unwrapped, ZerothOrder):
            return
        if state.global_step and self._path.exists():
            try:
                self._recorder = Recorder(unwrapped, self._path, model=model, about=self._about, resume=True)
                return
            except TrajectoryError as error:
                _LOG.warning("%s; another log begins at step %d", error, state.global_step)
        with writing(self._path):
            self._path.unlink(missing_ok=True)
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(unwrapped, self._path, model=model, about=self._about)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Have the log on the disk before the checkpoint of its last step."""
        if self._recorder is not None and (control.should_save or control.should_training_stop):
            self._recorder.mark()

    def close(self) -> None:
        """End the recording, however the training ended."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what the log of a training says for its record; nothing where there is no log, or none that is whole."""
    try:
        found = Trajectory.read(folder / TRAJECTORY)
    except TrajectoryError:
        return {}
    common, steps = found.header.common, found.steps
    half = any(tensor.trained and tensor.dtype in _HALF for tensor in found.header.tensors())
    rounding = "stochastic" if common["rounding"] == "auto" else common["rounding"]
    return {
        "engine": engine_at(found.header, steps).kind,
        "rounding": rounding if half else "none",
        "skipped_steps": sum(step.skipped for step in steps),
    }
