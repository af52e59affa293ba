"""Steps through the Trainer are the steps of a plain loop."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.methods.catalog.sgd import SGD
from shoestring.models.prompted import Passes, PromptedModel
from shoestring.models.tail import tail_of, tails_read
from shoestring.training.fit import train
from shoestring.training.objective import OBJECTIVES
from shoestring.training.settings import TrainSettings
from shoestring.zeroth import MeZO as ZerothOptimizer

pytestmark = pytest.mark.usefixtures("frozen_imports")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def double(architecture: str = "roberta", kind: str = "masked", **changes: Any) -> PromptedModel:
    changes = NO_DROPOUT | changes if architecture == "roberta" else changes
    return tiny.prompted(architecture, kind, dtype=torch.float64, **changes)


def quietly(*_: Any) -> None:
    """Log nothing."""


METHODS = {
    "adam": Adam(lr=1e-2, steps=5, batch_size=4, select="last", schedule="constant"),
    "adam, decayed and unclipped": Adam(
        lr=1e-2, steps=5, batch_size=4, weight_decay=0.1, max_grad_norm=0, select="last"
    ),
    "adam, clipped hard": Adam(lr=1e-2, steps=3, batch_size=4, max_grad_norm=0.01, epsilon=1e-3, select="last"),
    "sgd with momentum": SGD(lr=1e-2, momentum=0.9, steps=5, batch_size=4, select="last", weight_decay=0.1),
}


def first_order_twin(subject: PromptedModel, settings: Any, batches: list[list[int]], steps: int) -> Any:
    """Yield the weights before each step of an ordinary loop, linear or constant schedule."""
    model, prompts = subject.model, tiny.encoded(subject, 16)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    if isinstance(settings, Adam):
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.epsilon)
    else:
        optimizer = torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    model.train()
    for number, indices in enumerate(batches):
        yield tiny.weights(model)
        factor = 1 - number / steps if settings.schedule == "linear" else 1.0
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor
        batch = subject.collate([prompts[index] for index in indices])
        optimizer.zero_grad()
        OBJECTIVES.get("cross-entropy").loss(subject, batch).backward()
        if settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
    yield tiny.weights(model)


@pytest.mark.parametrize("case", METHODS)
def test_gradient_steps_are_those_of_a_plain_loop(case: str, seen: list[Any], tmp_path: Path) -> None:
    settings = METHODS[case]
    subject, other = double(), double()
    train(tiny.job(subject, tmp_path, settings), log=quietly)
    batches = [loss.indices for loss in seen]
    wanted = list(first_order_twin(other, settings, batches, settings.steps))
    found = [*(loss.weights for loss in seen), tiny.weights(subject.model)]
    assert len(found) == settings.steps + 1
    for ours, theirs in zip(found, wanted, strict=True):
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-12, msg=name)
    assert not tiny.equal(found[0], found[-1])


@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("t5", "seq2seq"), ("opt", "head")])
def test_zeroth_order_steps_are_those_of_a_plain_loop(
    architecture: str, kind: str, seen: list[Any], tmp_path: Path
) -> None:
    settings = MeZO(lr=1e-2, steps=4, batch_size=5, samples=2, weight_decay=0.1, schedule="linear", select="last")
    subject, other = double(architecture, kind), double(architecture, kind)
    train(tiny.job(subject, tmp_path, settings), log=quietly)
    optimizer = settings.optimizer(other.model, seed=13)
    assert isinstance(optimizer, ZerothOptimizer)
    prompts, tail = tiny.encoded(other, 16), tail_of(other.model)
    batches = [loss.indices for loss in seen]
    assert [len(indices) for indices in batches] == [5, 5, 5, 1]
    for number, indices in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - number / 4)
        batch = other.collate([prompts[index] for index in indices])
        with tails_read(other.model, tail):
            optimizer.step(lambda batch=batch: OBJECTIVES.get("cross-entropy").loss(other, batch))
    assert tiny.equal(tiny.weights(subject.model), tiny.weights(other.model))


def test_losses_over_all_answer_tokens_are_the_same_where_batches_are_cut(tmp_path: Path) -> None:
    task = tiny.task_of(("terrible", "not bad at all"))
    ends = []
    for number, settings in enumerate(({"max_rows": 4}, {"max_rows": None}, {"engine": "replay"})):
        subject = tiny.prompted("llama", "causal", task=task, dtype=torch.float64)
        method = MeZO(lr=1e-2, steps=2, batch_size=5, objective="language-model", select="last", **settings)
        train(tiny.job(subject, tmp_path / str(number), method, train=5), log=quietly)
        ends.append(tiny.weights(subject.model))
    for other in ends[1:]:
        for name, value in ends[0].items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("method", [Adam, SGD, MeZO])
def test_two_micro_batches_of_four_are_a_batch_of_eight(method: Any, tmp_path: Path) -> None:
    """Stock Trainer doubles RoBERTa's loss here (huggingface/transformers issue 47688)."""
    more: dict[str, Any] = {"max_grad_norm": 0.0} if method is not MeZO else {}
    common: dict[str, Any] = {"lr": 1e-2, "steps": 4, "select": "last", "log_every": 1, "schedule": "constant", **more}
    ends, logs = [], []
    for batch in ({"batch_size": 8}, {"batch_size": 4, "accumulate": 2}):
        subject, lines = double(), []
        train(tiny.job(subject, tmp_path / str(batch), method(**common, **batch)), log=lines.append)
        ends.append(tiny.weights(subject.model))
        slope = "projected_grad" if method is MeZO else "grad_norm"
        logs.append([(line["loss"], line[slope]) for line in lines if "loss" in line])
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=1e-9, msg=name)
    assert len(logs[0]) == 4
    assert logs[0] == [pytest.approx(pair, rel=1e-5) for pair in logs[1]]


def test_passes_are_counted_in_batches_and_examples_and_dev_is_not(tmp_path: Path) -> None:
    def passes(settings: TrainSettings) -> Passes:
        subject = tiny.prompted("roberta", "masked")
        train(tiny.job(subject, tmp_path / type(settings).__name__, settings), log=quietly)
        return subject.passes

    common: dict[str, Any] = {"steps": 3, "batch_size": 4, "accumulate": 2, "eval_every": 1}
    assert passes(Adam(**common)) == Passes(6, 6, 24, 24)
    assert passes(SGD(**common)) == Passes(6, 6, 24, 24)
    assert passes(MeZO(**common, samples=3)) == Passes(36, 0, 144, 0)


@pytest.mark.parametrize("method", [Adam, MeZO])
def test_every_epoch_shows_every_example_once_in_another_order(method: Any, seen: list[Any], tmp_path: Path) -> None:
    train(tiny.job(double(), tmp_path, method(steps=8, batch_size=4)), log=quietly)
    order = [index for loss in seen for index in loss.indices]
    assert Counter(order[:16]) == Counter(order[16:]) == Counter(range(16))
    assert order[:16] != order[16:]


def test_batches_and_directions_follow_the_seed(seen: list[Any], tmp_path: Path) -> None:
    def end(seed: int) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
        seen.clear()
        subject = tiny.prompted("roberta", "masked")
        folder = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
        train(tiny.job(subject, folder, MeZO(steps=4, batch_size=4, lr=1e-3), seed=seed), log=quietly)
        return [loss.indices for loss in seen], tiny.weights(subject.model)

    first, again, other = end(1), end(1), end(2)
    assert first[0] == again[0]
    assert tiny.equal(first[1], again[1])
    assert first[0] != other[0]
    assert not tiny.equal(first[1], other[1])


def test_a_batch_larger_than_the_training_set_is_the_whole_set(seen: list[Any], tmp_path: Path) -> None:
    train(tiny.job(double(), tmp_path, MeZO(steps=2, batch_size=64)), log=quietly)
    assert all(sorted(loss.indices) == list(range(16)) for loss in seen)


def test_dropout_is_on_under_gradients_and_off_under_zeroth_order(seen: list[Any], tmp_path: Path) -> None:
    for settings in (Adam(steps=3, eval_every=1), MeZO(steps=3, eval_every=1)):
        seen.clear()
        subject = tiny.prompted("roberta", "masked", hidden_dropout_prob=0.5)
        subject.model.train()
        train(tiny.job(subject, tmp_path / settings.kind, settings), log=quietly)
        assert {loss.training for loss in seen} == {settings.kind == "adam"}
        assert not any(module.training for module in subject.model.modules())


SCHEDULES = {
    "constant": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "linear": [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
    "cosine": [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)],
}
WARM = {
    "constant": [0.0, 0.5, 1.0, 1.0, 1.0, 1.0],
    "linear": [0.0, 0.5, 1.0, 3 / 4, 2 / 4, 1 / 4],
    "cosine": [0.0, 0.5, *((1 + math.cos(math.pi * step / 4)) / 2 for step in range(4))],
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warm", [0, 2])
def test_the_learning_rate_follows_its_schedule(schedule: Any, warm: int, seen: list[Any], tmp_path: Path) -> None:
    settings = MeZO(lr=1e-3, steps=6, schedule=schedule, warmup_steps=warm, eval_every=6)
    train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, settings), log=quietly)
    wanted = (WARM if warm else SCHEDULES)[schedule]
    assert [loss.lrs[0] / 1e-3 for loss in seen] == pytest.approx(wanted)
    assert all(len(set(loss.lrs)) == 1 for loss in seen)


def test_decay_spares_tensors_of_one_axis() -> None:
    model = torch.nn.Linear(2, 2)
    matrix, bias = ("weight", model.weight), ("bias", model.bias)
    found = MeZO(weight_decay=0.3).groups(model)
    assert [(group["params"], group["weight_decay"]) for group in found] == [([matrix], 0.3), ([bias], 0.0)]
    model.weight.requires_grad_(False)
    assert [group["params"] for group in MeZO(weight_decay=0.3).groups(model)] == [[bias]]
