"""Which weights are kept, when a training stops, and what it does about numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import NonFiniteLossError
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.methods.catalog.sgd import SGD
from shoestring.training.checkpoints import Fitted, last_checkpoint
from shoestring.training.fit import train
from shoestring.training.objectives.cross_entropy import CrossEntropy
from shoestring.training.settings import TrainSettings
from shoestring.training.trainer import PromptTrainer

pytestmark = pytest.mark.usefixtures("frozen_imports")
Script = Callable[..., list[dict[str, torch.Tensor]]]
METRIC = [0.5, 0.9, 0.7, 0.9, 0.2]
LOSS = [3.0, 2.0, 1.0, 1.0, 4.0]


def fit(folder: Path, script: Script, settings: TrainSettings) -> tuple[Fitted, int | None]:
    """Train on the scripted numbers; return also which evaluation's weights the model ended with."""
    subject = tiny.prompted("roberta", "masked")
    met = script(METRIC, LOSS, subject.model)
    fitted = train(tiny.job(subject, folder, settings), log=lambda line: None)
    end = tiny.weights(subject.model)
    places = [number for number, weights in enumerate(met) if tiny.equal(weights, end)]
    return fitted, places[0] if len(places) == 1 else None


@pytest.mark.parametrize(("select", "place"), [("metric", 1), ("loss", 2), ("last", 4)])
@pytest.mark.parametrize("method", [MeZO, Adam])
def test_the_selected_weights_are_those_of_the_first_best_evaluation(
    select: Any, place: int, method: Any, script_dev: Script, tmp_path: Path
) -> None:
    settings = method(steps=10, eval_every=2, batch_size=4, lr=1e-3, select=select)
    fitted, found = fit(tmp_path, script_dev, settings)
    assert found == place
    assert (fitted.steps, fitted.selected_step) == (10, 2 * (place + 1))


def test_patience_without_anything_to_wait_for_is_refused() -> None:
    with pytest.raises(ValueError, match='patience waits for something better, and select="last" compares nothing'):
        MeZO(select="last", patience=2)


@pytest.mark.parametrize(("select", "patience", "steps"), [("metric", 2, 8), ("loss", 2, 10), ("metric", 1, 6)])
def test_training_stops_after_so_many_evaluations_without_a_better_one(
    select: Any, patience: int, steps: int, script_dev: Script, tmp_path: Path
) -> None:
    settings = MeZO(steps=10, eval_every=2, batch_size=4, lr=1e-3, select=select, patience=patience)
    fitted, place = fit(tmp_path, script_dev, settings)
    assert fitted.steps == steps
    selected = {"metric": 4, "loss": 6, "last": steps}[select]
    assert fitted.selected_step == selected
    assert place == selected // 2 - 1


def test_dev_is_evaluated_every_tenth_of_the_steps_and_at_the_end(tmp_path: Path) -> None:
    assert MeZO(steps=100).evaluations == 10
    assert MeZO(steps=5).evaluations == 1
    assert MeZO(steps=5, eval_every=50).evaluations == 5
    lines: list[dict[str, Any]] = []
    train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, MeZO(steps=4, eval_every=3)), log=lines.append)
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 4]


def test_log_lines_hold_step_loss_and_learning_rate(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    settings = Adam(steps=4, eval_every=4, log_every=2, lr=1e-3)
    train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, settings), log=lines.append)
    assert [line["step"] for line in lines] == [2, 4, 4]
    assert {"step", "loss", "lr", "grad_norm"} == set(lines[0])
    assert {"step", "eval_accuracy", "eval_loss"} <= set(lines[2])


def poison(monkeypatch: pytest.MonkeyPatch, step: int, value: float = math.nan) -> None:
    """Multiply all losses of a step by `value`."""
    trainer_losses, losses, at = PromptTrainer.losses, CrossEntropy.losses, [0]

    def note(self: PromptTrainer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        at[0] = self.state.global_step + 1
        return trainer_losses(self, inputs)

    def poisoned(self: CrossEntropy, *inputs: Any) -> torch.Tensor:
        found = losses(self, *inputs)
        return found * value if at[0] == step else found

    monkeypatch.setattr(PromptTrainer, "losses", note)
    monkeypatch.setattr(CrossEntropy, "losses", poisoned)


@pytest.mark.parametrize("method", [Adam, SGD, MeZO])
def test_a_loss_that_is_not_finite_names_its_step_and_examples_and_keeps_the_last_checkpoint(
    method: Any, monkeypatch: pytest.MonkeyPatch, seen: list[Any], tmp_path: Path
) -> None:
    poison(monkeypatch, 8)
    subject = tiny.prompted("roberta", "masked")
    settings = method(steps=20, eval_every=3, batch_size=4, lr=1e-3)
    with pytest.raises(
        NonFiniteLossError, match=r"step 8: the loss is nan on the batch \[train:.*smaller method.lr"
    ) as e:
        train(tiny.job(subject, tmp_path, settings), log=lambda line: None)
    assert e.value.step == 8
    assert e.value.examples == tuple(f"train:{index}" for index in seen[-1].indices)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-6"
    assert all(bool(torch.isfinite(value).all()) for value in tiny.weights(subject.model).values())


@pytest.mark.parametrize(
    ("method", "dtype", "advice"),
    [
        (Adam, torch.float32, "a smaller method.lr"),
        (SGD, torch.bfloat16, "a smaller method.lr or model.dtype=float32"),
        (MeZO, torch.float32, "a smaller method.lr (or method.eps)"),
        (MeZO, torch.bfloat16, "a smaller method.lr (or method.eps) or model.dtype=float32"),
    ],
)
def test_only_what_can_be_changed_is_advised_where_the_loss_is_not_finite(
    method: Any, dtype: torch.dtype, advice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, 1)
    subject = tiny.prompted("roberta", "masked")
    model: Any = subject.model
    model.to(dtype)
    with pytest.raises(NonFiniteLossError) as error:
        train(tiny.job(subject, tmp_path, method(steps=2, lr=1e-3)), log=lambda line: None)
    assert str(error.value).endswith(f"]; {advice} usually helps")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    subject = tiny.prompted("roberta", "masked")
    settings = SGD(steps=4, eval_every=1, batch_size=4, lr=1e38, max_grad_norm=0.0, schedule="constant")
    with pytest.raises(NonFiniteLossError, match=r"step 1: the loss is nan on the batch \[train:0, "):
        train(tiny.job(subject, tmp_path, settings), log=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_training_leaves_the_model_as_usable_as_a_finished_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, 3)
    subject = tiny.prompted("roberta", "masked")
    with pytest.raises(NonFiniteLossError):
        train(tiny.job(subject, tmp_path, Adam(steps=5)), log=lambda line: None)
    assert not any(module.training for module in subject.model.modules())
    assert all(param.grad is None for param in subject.model.parameters())


def test_only_the_examples_whose_loss_is_not_finite_are_named(
    monkeypatch: pytest.MonkeyPatch, seen: list[Any], tmp_path: Path
) -> None:
    original = CrossEntropy.losses

    def second_is_nan(self: CrossEntropy, *inputs: Any) -> torch.Tensor:
        losses = original(self, *inputs)
        return torch.where(torch.arange(len(losses)) == 1, math.nan, losses)

    monkeypatch.setattr(CrossEntropy, "losses", second_is_nan)
    with pytest.raises(NonFiniteLossError) as error:
        train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, Adam(steps=2)), log=lambda line: None)
    assert error.value.examples == (f"train:{seen[0].indices[1]}",)


def test_steps_whose_loss_is_not_finite_are_skipped_and_counted_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, 3)
    lines: list[dict[str, Any]] = []
    settings = MeZO(steps=5, eval_every=5, batch_size=4, lr=1e-3, log_every=1, nonfinite="skip", select="last")
    train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, settings), log=lines.append)
    logged = [line for line in lines if "loss" in line]
    assert [line.get("skipped", 0) for line in logged] == [0, 0, 1, 1, 1]
    assert all(math.isfinite(line["loss"]) for line in logged)
    assert [line.get("projected_grad", 0) > 0 for line in logged] == [True, True, False, True, True]
    assert "projected_grad" not in logged[2]


def test_a_skipped_step_moves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    poison(monkeypatch, 1)
    subject = tiny.prompted("roberta", "masked", dtype=torch.float64)
    before = tiny.weights(subject.model)
    train(tiny.job(subject, tmp_path, MeZO(steps=1, lr=1e-1, nonfinite="skip")), log=lambda line: None)
    for name, value in tiny.weights(subject.model).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-12, msg=name)
