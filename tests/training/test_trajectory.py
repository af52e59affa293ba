"""The log of a training makes its weights again, also of one that was killed and taken up again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import OutputError, TrajectoryError
from shoestring.methods.base import METHODS
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.training.fit import train
from shoestring.training.settings import TRAJECTORY
from shoestring.training.trainer import PromptTrainer
from shoestring.training.trajectory import Recording, facts_of
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.lora import LoRA
from shoestring.zeroth.trajectory import Trajectory, replay

pytestmark = pytest.mark.usefixtures("frozen_imports")
TUNINGS = {"full": Full(), "lora": LoRA(r=2)}
SHORT: dict[str, Any] = {"steps": 10, "batch_size": 4, "eval_every": 4, "lr": 1e-3, "schedule": "linear"}


def model_of(tuning: Any, dtype: torch.dtype = torch.float32) -> Any:
    return tuning.apply(tiny.build_model("roberta", "masked").to(dtype), seed=1)


def fit(tuning: Any, folder: Path, settings: Any, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    subject = replace(tiny.prompted("roberta", "masked"), model=model_of(tuning, dtype))
    train(tiny.job(subject, folder, settings), log=lambda _: None)
    return tiny.weights(subject.model)


def kill(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End the process while the losses of a step are computed."""
    original = PromptTrainer.losses

    def watch(self: PromptTrainer, *inputs: Any) -> torch.Tensor:
        if self.state.global_step + 1 == step:
            raise KeyboardInterrupt
        return original(self, *inputs)

    monkeypatch.setattr(PromptTrainer, "losses", watch)


@pytest.mark.parametrize("engine", ["paired", "virtual", "fused", "replay"])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_last_weights_of_a_training_are_those_of_its_log(tuning: str, engine: Any, tmp_path: Path) -> None:
    trained = fit(TUNINGS[tuning], tmp_path, MeZO(**SHORT, select="last", engine=engine))
    model = model_of(TUNINGS[tuning])
    assert not tiny.equal(tiny.weights(model), trained)
    replay(tmp_path / TRAJECTORY, model)
    assert tiny.equal(tiny.weights(model), trained)
    found = Trajectory.read(tmp_path / TRAJECTORY)
    assert list(found.marks) == [4, 8, 10]
    assert [step.lr for step in found.steps[1:]] == pytest.approx([1e-3 * (1 - n / 10) for n in range(1, 10)])


@pytest.mark.parametrize("at", [3, 7, 9])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_training_that_was_killed_leaves_the_log_of_one_that_was_not(tuning: str, at: int, tmp_path: Path) -> None:
    settings = MeZO(**SHORT, select="last", engine="paired")
    whole = fit(TUNINGS[tuning], tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, at)
        with pytest.raises(KeyboardInterrupt):
            fit(TUNINGS[tuning], tmp_path / "parts", settings)
    assert len(Trajectory.read(tmp_path / "parts" / TRAJECTORY).steps) == at - 1
    assert tiny.equal(fit(TUNINGS[tuning], tmp_path / "parts", settings), whole)
    logs = [Trajectory.read(tmp_path / name / TRAJECTORY) for name in ("whole", "parts")]
    assert [step.answers for step in logs[0].steps] == [step.answers for step in logs[1].steps]
    assert logs[0].marks == logs[1].marks
    model = model_of(TUNINGS[tuning])
    replay(logs[1], model)
    assert tiny.equal(tiny.weights(model), whole)


def test_the_selected_weights_are_those_of_the_log_up_to_their_step(
    script_dev: Callable[..., Any], tmp_path: Path
) -> None:
    subject = replace(tiny.prompted("roberta", "masked"), model=model_of(Full()))
    script_dev([0.9, 0.5, 0.1], [1.0] * 3, subject.model)
    fitted = train(tiny.job(subject, tmp_path, MeZO(**SHORT)), log=lambda _: None)
    assert fitted.selected_step == 4
    model = model_of(Full())
    replay(tmp_path / TRAJECTORY, model, steps=4)
    assert tiny.equal(tiny.weights(model), tiny.weights(subject.model))


ZEROTH = [name for name, entry in METHODS.items() if getattr(entry, "needs_backward", True) is False and entry.trains]


@pytest.mark.parametrize("name", ZEROTH)
def test_the_log_of_every_zeroth_order_method_makes_its_weights_again(name: str, tmp_path: Path) -> None:
    settings = tiny.short(name).model_copy(update={"select": "last", "lr": 1e-7})
    subject = replace(tiny.prompted("roberta", "masked"), model=model_of(LoRA(r=2)))
    train(tiny.job(subject, tmp_path, settings), log=lambda _: None)
    model = model_of(LoRA(r=2))
    replay(tmp_path / TRAJECTORY, model, make=lambda: settings.optimizer(model, 13))
    assert tiny.equal(tiny.weights(model), tiny.weights(subject.model))


@pytest.mark.parametrize("rounding", ["auto", "residual"])
def test_a_killed_training_in_half_precision_too(rounding: Any, tmp_path: Path) -> None:
    settings = MeZO(**SHORT, select="last", engine="paired", rounding=rounding)
    whole = fit(Full(), tmp_path / "whole", settings, torch.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            fit(Full(), tmp_path / "parts", settings, torch.bfloat16)
    assert tiny.equal(fit(Full(), tmp_path / "parts", settings, torch.bfloat16), whole)
    model = model_of(Full(), torch.bfloat16)
    replay(tmp_path / "parts" / TRAJECTORY, model)
    assert tiny.equal(tiny.weights(model), whole)
    assert facts_of(tmp_path / "parts") == {
        "engine": "paired",
        "rounding": "stochastic" if rounding == "auto" else "residual",
        "skipped_steps": 0,
    }


@pytest.mark.parametrize("damage", ["cut off", "gone", "another's"])
def test_a_log_that_cannot_go_on_does_not_stop_the_training(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MeZO(**SHORT, select="last")
    whole = fit(Full(), tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            fit(Full(), tmp_path / "parts", settings)
    path = tmp_path / "parts" / TRAJECTORY
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[: Trajectory.read(path).ends[2][0]])
    elif damage == "gone":
        path.unlink()
    else:
        shutil.copy(_other(tmp_path), path)
    caplog.clear()
    assert tiny.equal(fit(Full(), tmp_path / "parts", settings), whole)
    found = Trajectory.read(path)
    assert (found.header.start, found.last) == (4, 10)
    told = [record.getMessage() for record in caplog.records if record.name == Recording.__module__]
    assert len(told) == (0 if damage == "gone" else 1)
    assert all("another log begins at step 4" in text for text in told)
    with pytest.raises(TrajectoryError, match="it begins at step 4"):
        replay(found, model_of(Full()))


def _other(tmp_path: Path) -> Path:
    fit(LoRA(r=2), tmp_path / "other", MeZO(**SHORT, select="last"))
    return tmp_path / "other" / TRAJECTORY


def test_a_disk_that_fills_up_ends_the_training_with_its_log_and_checkpoint_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoestring.zeroth.trajectory.log import Log

    original, calls = Log.append, iter(range(99))

    def append(self: Log, record: Any) -> None:
        if next(calls) == 7:
            raise OutputError("the disk is full")
        original(self, record)

    settings = MeZO(**SHORT, select="last")
    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", append)
        with pytest.raises(OutputError, match="the disk is full"):
            fit(Full(), tmp_path, settings)
    trained = fit(Full(), tmp_path, settings)
    model = model_of(Full())
    replay(tmp_path / TRAJECTORY, model)
    assert tiny.equal(tiny.weights(model), trained)


def test_gradients_leave_no_log(tmp_path: Path) -> None:
    fit(Full(), tmp_path, Adam(steps=2, batch_size=4, select="last"))
    assert not (tmp_path / TRAJECTORY).exists()
    assert facts_of(tmp_path) == {}


def test_recording_leaves_nothing_open_and_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shoestring.zeroth.trajectory")
    fit(Full(), tmp_path, MeZO(**SHORT, select="last"))
    assert [record for record in caplog.records if "trajectory" in record.name] == []
    assert facts_of(tmp_path)["rounding"] == "none"
