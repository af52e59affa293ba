"""Training on answers that the model writes, and on those that examples bring."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import NonFiniteLossError
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.models.evaluation import answers_of, evaluate
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.training.fit import train
from shoestring.training.objective import OBJECTIVES
from shoestring.training.trainer import Job
from shoestring.zeroth import MeZO as ZerothOptimizer

pytestmark = pytest.mark.usefixtures("frozen_imports")
# Directions so large that answers differ at the two ends of each.
FAR: dict[str, Any] = {"lr": 0.05, "eps": 0.3, "steps": 3, "select": "last", "objective": "token-f1"}


def subject_of(architecture: str = "llama", task: dict[str, Any] | None = None) -> PromptedModel:
    kind = "seq2seq" if architecture in tiny.SEQ2SEQ else "causal"
    return tiny.prompted(architecture, kind, task=tiny.task_of(**(task or tiny.WRITTEN)), dtype=torch.float64)


def prompts_of(subject: PromptedModel, count: int = 6, seed: int = 5) -> list[EncodedPrompt]:
    """Prompts whose right answers are those of the model, or of another prompt, so that answers are worth something."""
    prompts = subject.encode(tiny.answered(count, seed))
    texts = subject.generate(prompts, count)
    return [replace(prompt, golds=(texts[n], texts[n - 1] + " x")) for n, prompt in enumerate(prompts)]


def job(subject: PromptedModel, folder: Path, settings: Any, dev: int = 4) -> Job:
    own, others = prompts_of(subject), prompts_of(subject, dev, seed=6)
    return Job(subject, own, others, settings, 13, folder, tiny.Unmeasured())


def quietly(*_: Any) -> None:
    """Log nothing."""


@pytest.mark.parametrize("engine", ["paired", "virtual", "fused", "replay"])
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_steps_on_written_answers_are_those_of_a_plain_loop(
    architecture: str, engine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MeZO(**FAR, batch_size=6, engine=engine)
    subject, other = subject_of(architecture), subject_of(architecture)
    prompts = prompts_of(other)
    with caplog.at_level(logging.WARNING):
        train(job(subject, tmp_path, settings), log=quietly)
    assert "a batch repeated" not in caplog.text
    optimizer = MeZO(**FAR, engine="replay").optimizer(other.model, seed=13)
    assert isinstance(optimizer, ZerothOptimizer)
    objective, grads = OBJECTIVES.get("token-f1"), []
    batch = objective.prepare(other.collate(prompts), prompts)
    for _ in range(3):
        optimizer.step(lambda: objective.loss(other, batch))
        grads += optimizer.last_projected_grads
    assert any(grads)
    for name, value in tiny.weights(subject.model).items():
        torch.testing.assert_close(value, other.model.get_parameter(name).detach(), rtol=0, atol=1e-9, msg=name)


def test_batches_are_cut_to_the_rows_that_are_allowed(tmp_path: Path) -> None:
    ends = []
    for rows in (None, 4):
        subject = subject_of()
        train(job(subject, tmp_path / str(rows), MeZO(**FAR, batch_size=6, max_rows=rows)), log=quietly)
        ends.append(tiny.weights(subject.model))
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=1e-9, msg=name)


def test_answers_on_dev_select_by_metric_and_are_not_written_to_select_by_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, lines = subject_of(), []
    common: dict[str, Any] = {"lr": 1e-2, "steps": 4, "batch_size": 4, "eval_every": 1}
    train(job(subject, tmp_path / "metric", Adam(**common)), log=lines.append)
    dev = [line for line in lines if "eval_loss" in line]
    assert [set(line) & {"eval_token-f1", "eval_exact-match"} for line in dev] == [
        {"eval_token-f1", "eval_exact-match"}
    ] * 4
    best = max(float(line["eval_token-f1"]) for line in dev)
    found = evaluate(subject.task, prompts := prompts_of(subject_of(), 4, 6), *answers_of(subject, prompts, 4))
    assert found["token-f1"] == pytest.approx(best)

    made = job(subject_of(), tmp_path / "loss", Adam(**common, select="loss"))
    monkeypatch.delattr(PromptedModel, "generate")
    lines.clear()
    fitted = train(made, log=lines.append)
    dev = [line for line in lines if "eval_loss" in line]
    assert not any("eval_token-f1" in line for line in dev)
    losses = [float(line["eval_loss"]) for line in dev]
    assert fitted.selected_step == losses.index(min(losses)) + 1


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_the_loss_on_dev_is_the_training_loss_of_all_dev_answers(architecture: str) -> None:
    subject = subject_of(architecture)
    prompts = prompts_of(subject, 5)
    scores, texts = answers_of(subject, prompts, 2)
    found = evaluate(subject.task, prompts, scores, texts)
    objective = OBJECTIVES.get("language-model")
    with torch.no_grad():
        loss = objective.loss(subject, objective.prepare(subject.collate(prompts), prompts))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-6)
    assert set(found) == {"token-f1", "exact-match", "loss"}
    assert found["exact-match"] > 0
    assert set(evaluate(subject.task, prompts, scores)) == {"loss"}


def test_what_is_taught_otherwise_than_asked_is_what_the_loss_is_of() -> None:
    subject = subject_of()
    prompts = prompts_of(subject, 3)
    other = replace(prompts[0], ids=(*prompts[0].ids, 41), position=len(prompts[0].ids), options=((17, 18),))
    parted = [replace(prompts[0], taught=other), *prompts[1:]]
    assert evaluate(subject.task, parted, *answers_of(subject, parted, 3))["loss"] == pytest.approx(
        evaluate(subject.task, [other, *prompts[1:]], *answers_of(subject, [other, *prompts[1:]], 3))["loss"]
    )
    assert subject.generate(parted, 3) == subject.generate(prompts, 3)


@pytest.mark.parametrize("objective", ["language-model", "whole-text"])
def test_a_model_learns_to_say_right_answers(objective: str, tmp_path: Path) -> None:
    subject = subject_of()
    settings = Adam(lr=3e-2, steps=12, batch_size=6, objective=objective, select="last")
    made = job(subject, tmp_path, settings)
    before = evaluate(subject.task, made.train, *answers_of(subject, made.train, 6, write=False))["loss"]
    train(made, log=quietly)
    after = evaluate(subject.task, made.train, *answers_of(subject, made.train, 6, write=False))["loss"]
    assert after < before / 2


@pytest.mark.parametrize("objective", ["cross-entropy", "accuracy", "language-model"])
def test_candidates_of_different_numbers_are_trained_on(objective: str, tmp_path: Path) -> None:
    settings = MeZO(lr=1e-2, eps=1e-2, steps=2, batch_size=6, select="last", objective=objective)
    ends = []
    for engine in ("paired", "replay"):
        subject = subject_of(task=tiny.CHOSEN)
        prompts = subject.encode(tiny.answered())
        assert len({len(prompt.options) for prompt in prompts}) > 1
        own = settings.model_copy(update={"engine": engine})
        train(Job(subject, prompts, prompts, own, 13, tmp_path / engine, tiny.Unmeasured()), log=quietly)
        ends.append(tiny.weights(subject.model))
    assert not tiny.equal(ends[0], tiny.weights(subject_of(task=tiny.CHOSEN).model))
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_answers_from_scores_that_are_no_numbers_end_a_training_or_skip_a_step(nonfinite: Any, tmp_path: Path) -> None:
    subject = subject_of()
    made = job(subject, tmp_path, MeZO(**FAR | {"steps": 1}, batch_size=6, nonfinite=nonfinite, eval_every=1))
    model: Any = subject.model
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    with pytest.raises(NonFiniteLossError, match=r"step 1: the loss is nan on the batch \[train:"):
        train(made, log=quietly)
