"""An interrupted training goes on where it stopped, and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.methods.catalog.sgd import SGD
from shoestring.models.prompted import PromptedModel
from shoestring.training.checkpoints import Fitted, last_checkpoint, step_of
from shoestring.training.fit import train
from shoestring.training.trainer import PromptTrainer
from shoestring.tuning.catalog.apet import APET
from shoestring.tuning.catalog.bitfit import BitFit
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.lora import LoRA

pytestmark = pytest.mark.usefixtures("frozen_imports")
Lines = list[dict[str, Any]]


def subject_of(tuning: Any, architecture: str = "roberta", kind: str = "masked") -> PromptedModel:
    subject = tiny.prompted(architecture, kind)
    return replace(subject, model=tuning.apply(subject.model, seed=1))


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException]) -> None:
    """Raise `error` while the loss of the given step is computed."""
    original = PromptTrainer.losses

    def watch(self: PromptTrainer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.state.global_step + 1 == step:
            raise error
        return original(self, inputs)

    monkeypatch.setattr(PromptTrainer, "losses", watch)


Settings = Any  # of a method that trains


def fit(subject: PromptedModel, folder: Path, settings: Settings) -> tuple[Fitted, dict[str, torch.Tensor], Lines]:
    lines: Lines = []
    fitted = train(tiny.job(subject, folder, settings), log=lines.append)
    return fitted, tiny.weights(subject.model), lines


LONG = MeZO(steps=100, batch_size=4, lr=1e-3, eval_every=20, log_every=1, schedule="linear", select="last")
SHORT: dict[str, Any] = {"steps": 20, "batch_size": 4, "eval_every": 4, "log_every": 1, "lr": 1e-3}
CASES: dict[str, tuple[Settings, Any, int]] = {
    "mezo": (LONG, Full(), 57),
    "mezo, best": (MeZO(**SHORT, samples=2), Full(), 15),
    "mezo, lora": (MeZO(**SHORT, accumulate=2, select="last"), LoRA(r=2), 15),
    "adam": (Adam(**SHORT, select="last"), Full(), 15),
    "adam, best": (Adam(**SHORT, warmup_steps=3, select="loss"), Full(), 15),
    "adam, lora": (Adam(**SHORT, schedule="cosine"), LoRA(r=2, dropout=0.1), 15),
    "mezo, apet": (MeZO(**SHORT, select="last"), APET(budget=200), 15),
    "adam, apet": (Adam(**SHORT, select="loss"), APET(budget=200), 15),
    "mezo, impatient": (MeZO(**SHORT | {"steps": 60}, patience=3), Full(), 11),
    "adam, impatient": (Adam(**SHORT | {"steps": 60}, patience=2, select="loss"), Full(), 6),
    # Lines of the log between checkpoints: the mean of losses in the first one goes on from before the interruption.
    "mezo, lines": (MeZO(**SHORT | {"log_every": 5}, select="last"), Full(), 15),
    "adam, lines": (Adam(**SHORT | {"log_every": 5}, accumulate=2, select="last"), Full(), 15),
    "sgd": (SGD(**SHORT, momentum=0.9, select="last"), BitFit(), 15),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_stopped_and_resumed_equals_an_uninterrupted_one_bit_for_bit(case: str, tmp_path: Path) -> None:
    settings, tuning, stop = CASES[case]
    whole = subject_of(tuning)
    fitted, wanted, lines = fit(whole, tmp_path / "whole", settings)
    stopped = subject_of(tuning)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, stop, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, tmp_path / "parts", settings)
    saved = settings.evaluations * ((stop - 1) // settings.evaluations)
    found = last_checkpoint(tmp_path / "parts")
    assert found is not None
    assert step_of(found) == saved
    resumed = subject_of(tuning)
    again, weights, rest = fit(resumed, tmp_path / "parts", settings)
    assert (again.steps, again.selected_step, again.resumed_from) == (fitted.steps, fitted.selected_step, saved)
    assert tiny.equal(weights, wanted)
    assert resumed.passes == whole.passes
    assert rest == [line for line in lines if line["step"] > saved]


def test_the_same_holds_for_a_causal_model_stopped_by_an_error(tmp_path: Path) -> None:
    settings = MeZO(**SHORT)
    _, wanted, _ = fit(subject_of(Full(), "llama", "causal"), tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 17, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            fit(subject_of(Full(), "llama", "causal"), tmp_path / "parts", settings)
    fitted, weights, _ = fit(subject_of(Full(), "llama", "causal"), tmp_path / "parts", settings)
    assert fitted.resumed_from == 16
    assert tiny.equal(weights, wanted)


def test_seconds_are_counted_across_the_interruption(tmp_path: Path) -> None:
    settings = MeZO(**SHORT)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 8, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(subject_of(Full()), tmp_path, settings)
    marker = tmp_path / "checkpoint-4" / "shoestring.json"
    saved = json.loads(marker.read_text())
    assert 0 < saved["seconds"] < 60
    marker.write_text(json.dumps(saved | {"seconds": 1000.0}))
    fitted, _, _ = fit(subject_of(Full()), tmp_path, settings)
    assert 1000 < fitted.seconds < 1060


def test_a_half_written_checkpoint_is_removed_and_the_one_before_taken(tmp_path: Path) -> None:
    settings = MeZO(**SHORT, select="last")
    _, wanted, _ = fit(subject_of(Full()), tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 8, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(subject_of(Full()), tmp_path / "parts", settings)
    whole = tmp_path / "parts" / "checkpoint-4"
    for name, marker in (("checkpoint-8", None), ("checkpoint-12", '{"forward"'), ("checkpoint-x", None)):
        shutil.copytree(whole, tmp_path / "parts" / name)
        (tmp_path / "parts" / name / "shoestring.json").unlink()
        if marker is not None:
            (tmp_path / "parts" / name / "shoestring.json").write_text(marker)
    fitted, weights, _ = fit(subject_of(Full()), tmp_path / "parts", settings)
    assert fitted.resumed_from == 4
    assert tiny.equal(weights, wanted)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "checkpoint-20",
        "trained.json",
        "trajectory.bin",
    ]


def test_a_folder_that_was_moved_in_between_still_gives_its_best_checkpoint(
    script_dev: Callable[..., list[dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    settings, first, second = Adam(**SHORT), subject_of(Full()), subject_of(Full())
    met = script_dev([0.5, 0.9, 0.1, 0.2, 0.3], [1.0] * 5, first.model)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 15, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(first, tmp_path / "before", settings)
    (tmp_path / "before").rename(tmp_path / "after")
    fitted, weights, _ = fit(second, tmp_path / "after", settings)
    assert (fitted.resumed_from, fitted.selected_step) == (12, 8)
    assert tiny.equal(weights, met[1])


def test_there_is_no_checkpoint_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "none") is None


def _no_training(*_: Any, **__: Any) -> Any:
    raise AssertionError("it trains again")


@pytest.mark.parametrize("select", ["metric", "loss", "last"])
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "interrupted before the note"])
def test_a_training_that_had_come_to_its_end_is_not_made_again(select: str, noted: bool, tmp_path: Path) -> None:
    """Ten steps of four examples do not fill the last epoch; whoever went on would make an eleventh step."""
    settings = Adam(steps=10, batch_size=4, lr=1e-2, eval_every=4, log_every=1, select=select)
    first = subject_of(Full())
    if noted:
        fitted, wanted, _ = fit(first, tmp_path, settings)
    else:
        with pytest.MonkeyPatch.context() as patch:
            # The process is gone before the Trainer can remove all checkpoints but the best one.
            patch.setattr(PromptTrainer, "_finalize_training", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                fit(first, tmp_path, settings)
        fitted, wanted, _ = fit(subject_of(Full()), tmp_path / "whole", settings)
    second = subject_of(Full())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "train", _no_training)
        again, weights, lines = fit(second, tmp_path, settings)
    assert (again.steps, again.selected_step) == (10, fitted.selected_step)
    assert tiny.equal(weights, wanted)
    assert second.passes == first.passes
    assert lines == []


def test_the_last_checkpoint_is_kept_where_the_last_weights_are_asked_for(tmp_path: Path) -> None:
    settings = Adam(steps=10, batch_size=4, lr=1e-2, eval_every=4, select="last")
    fit(subject_of(Full()), tmp_path, settings)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-10"]


def test_a_checkpoint_of_an_early_version_notes_no_losses_and_is_taken_up(tmp_path: Path) -> None:
    settings = MeZO(**SHORT | {"log_every": 5}, select="last")
    _, wanted, lines = fit(subject_of(Full()), tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 15, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(subject_of(Full()), tmp_path / "parts", settings)
    marker = tmp_path / "parts" / "checkpoint-12" / "shoestring.json"
    saved = json.loads(marker.read_text())
    assert saved.pop("unlogged")[1] == 10
    marker.write_text(json.dumps(saved))
    _, weights, rest = fit(subject_of(Full()), tmp_path / "parts", settings)
    assert tiny.equal(weights, wanted)
    # The next line is the mean since the checkpoint, all later ones are those of an uninterrupted training.
    assert [line["step"] for line in rest] == [line["step"] for line in lines if line["step"] > 12]
    assert rest[1:] == [line for line in lines if line["step"] > 12][1:]
