"""Checkpoints of a training: which are whole, how far they came, and what a finished training left."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shoestring.models.prompted import Passes
from shoestring.training.settings import TrainSettings

STATE = "trainer_state.json"
METER = "shoestring.json"
TRAINED = "trained.json"


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


@dataclass(frozen=True)
class Trained:
    """A training that came to its end: what to load, and what it cost."""

    checkpoint: Path
    fitted: Fitted
    passes: Passes


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in `folder`; half-written ones are removed.

    The Trainer writes its state last, after weights, optimizer and our meter, and removes older checkpoints only then.
    """
    whole = []
    for path in sorted(folder.glob("checkpoint-*"), key=step_of):
        try:
            _json(path / STATE), _json(path / METER)
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return whole[-1] if whole else None


def step_of(checkpoint: Path) -> int:
    """Return the step a checkpoint folder was saved at, -1 if its name does not say."""
    tail = checkpoint.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


@dataclass(frozen=True)
class Metered:
    """What a training had come to at a checkpoint.

    Attributes:
        passes: passes made.
        seconds: time spent.
        unlogged: the sum of the losses behind the last line of the log, and the step of that line.
        ways: what was found out about the model's ways of computing several inputs at once (`Sharing.found`).
    """

    passes: Passes
    seconds: float
    unlogged: tuple[float, int]
    ways: dict[str, bool]


def read_meter(checkpoint: Path) -> Metered:
    """Return what came before a checkpoint."""
    saved = _json(checkpoint / METER)
    # Early versions noted no losses; the next line then is the mean since the checkpoint.
    total, step = saved.get("unlogged", (0.0, step_of(checkpoint)))
    return Metered(Passes(**saved["passes"]), saved["seconds"], (total, step), saved.get("ways", {}))


def write_meter(checkpoint: Path, metered: Metered) -> None:
    """Note in a checkpoint what came before it."""
    text = json.dumps(asdict(metered))
    (checkpoint / METER).write_text(text, encoding="utf-8")


def note_trained(folder: Path, fitted: Fitted, passes: Passes) -> None:
    """Note that a training is over: what is interrupted from now on need not train again."""
    text = json.dumps({"fitted": asdict(fitted), "passes": asdict(passes)})
    half = folder / f".{TRAINED}"
    half.write_text(text, encoding="utf-8")
    half.replace(folder / TRAINED)


def find_trained(folder: Path, settings: TrainSettings) -> Trained | None:
    """Return what a training in `folder` left, if it came to its end: by its note, or by its last checkpoint.

    There is no note where it was interrupted between its last checkpoint and the note.
    """
    noted = _noted(folder)
    if noted is not None:
        return noted
    last = last_checkpoint(folder)
    if last is None:
        return None
    state = _json(last / STATE)
    stopped = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    if step_of(last) < settings.steps and not stopped:
        return None
    best = Path(state.get("best_model_checkpoint") or last).name if settings.select != "last" else last.name
    metered = read_meter(last)
    selected = folder / best if (folder / best).is_dir() else last
    return Trained(selected, Fitted(step_of(last), step_of(selected), metered.seconds), metered.passes)


def steps_kept(folder: Path) -> int:
    """Return the step up to which a training in `folder` is not made again; -1 where there is none.

    Of one that came to its end that is its last step, though it may have kept the checkpoint of an earlier one alone.
    """
    noted, last = _noted(folder), last_checkpoint(folder)
    if noted is not None:
        return noted.fitted.steps
    return -1 if last is None else step_of(last)


def _noted(folder: Path) -> Trained | None:
    """Return what the note says of a training that came to its end, where the selected weights are there."""
    try:
        saved = _json(folder / TRAINED)
        fitted = Fitted(**saved["fitted"])
        checkpoint = folder / f"checkpoint-{fitted.selected_step}"
        return Trained(checkpoint, fitted, Passes(**saved["passes"])) if checkpoint.is_dir() else None
    except (OSError, ValueError):
        return None


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
