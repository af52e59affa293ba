"""From the log of a zeroth-order run and its base model to the model that was tuned."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from shoestring.config import Settings, build
from shoestring.errors import OutputError, RunFolderError, TrajectoryError
from shoestring.files import saving, writing
from shoestring.models.loading import load_model
from shoestring.models.quiet import quiet
from shoestring.progress import Progress, Silent
from shoestring.runs.config import AnyMethod, AnyModel, AnyTuning
from shoestring.runs.record import read_record
from shoestring.zeroth.trajectory import Trajectory, replay

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from shoestring.training.settings import TrainSettings
    from shoestring.zeroth.base import ZerothOrder


class Origin(Settings):
    """What the log of a run says of it."""

    model: AnyModel
    tuning: AnyTuning
    method: AnyMethod
    seed: int
    run_id: str
    task: str
    outputs: int


@dataclass(frozen=True)
class Replayed:
    """What was made: of which run and model, up to which step, and the step whose weights the run kept, if known."""

    origin: Origin
    model: str
    steps: int
    kept: int | None


def replay_run(
    log: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    steps: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Make the weights of a run from its log, and save them as the run itself would, with the tokenizer.

    Args:
        log: `trajectory.bin` of a run.
        out: folder to write; it must not hold anything.
        model: the base model, by default the one that the log names.
        steps: stop at this step; by default at the end of the log.
        device: by default the kind of device that the run had, where rounding is the same.
        progress: where to report.

    Raises:
        TrajectoryError: if the log is damaged, says nothing of a model, or is of another base model, or if the training
            began elsewhere than there.
        ModelError: if the base model cannot be loaded.
        OutputError: if `out` holds something, or the disk refuses.
    """
    log, out, progress = Path(log), Path(out), progress or Silent()
    trajectory = Trajectory.read(log)
    origin = _origin(trajectory)
    if getattr(origin.method, "begin", None) is not None:
        raise TrajectoryError(
            f"{log} is of a training that began at a linear probe (method.begin), which a log does not hold; "
            "run it again with output.keep_model=true"
        )
    refuse_full(out)
    wanted = {"device": device or trajectory.header.device}
    if model is not None:
        wanted |= {"name": model, "revision": None}
    settings = origin.model.model_copy(update=wanted)
    with progress.bar(f"load {settings.name}", 1):
        loaded = load_model(settings, labels=origin.outputs, seed=origin.seed)
        tuned = origin.tuning.apply(loaded.model, origin.seed)
    last = trajectory.last if steps is None else steps
    method = cast("TrainSettings", origin.method)
    with progress.bar(f"{origin.task}: replay {origin.method.kind}", max(0, last)) as bar:
        made = replay(trajectory, tuned, steps=steps, bar=bar, make=lambda: _optimizer(method, tuned, origin.seed))
    _save(origin, tuned, loaded.tokenizer, out)
    return Replayed(origin, settings.name, made.shared["steps"], _kept(log, origin))


def _origin(trajectory: Trajectory) -> Origin:
    if "model" not in trajectory.header.about:
        raise TrajectoryError(
            f"{trajectory.place} was not written by `shoestring run` and does not say what model it is of; "
            "shoestring.zeroth.trajectory.replay makes its weights again in Python"
        )
    return build(Origin, trajectory.header.about, str(trajectory.place))


def refuse_full(out: Path) -> None:
    """Refuse to write a model where something is.

    Raises:
        OutputError: if `out` is a file, or a folder that is not empty.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        what = "is a file" if out.is_file() else "is a folder that holds something"
        raise OutputError(f"{out} {what}; choose another place to write the model to")


def _optimizer(method: TrainSettings, model: PreTrainedModel, seed: int) -> ZerothOrder:
    return cast("ZerothOrder", method.optimizer(model, seed))


def _save(origin: Origin, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the folder so that it is whole or not there."""
    half = out.parent / f".{out.name}.new"
    shutil.rmtree(half, ignore_errors=True)
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        with saving(out), quiet():
            origin.tuning.save(model, half)
            tokenizer.save_pretrained(half)
            half.replace(out)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def _kept(log: Path, origin: Origin) -> int | None:
    """Return the step whose weights a run kept, where its record lies beside its log."""
    with suppress(RunFolderError):
        record = read_record(log.parent)
        if record is not None and record.run_id == origin.run_id:
            return record.facts.get("selected_step")
    return None
