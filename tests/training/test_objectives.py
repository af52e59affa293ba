from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import tiny
from reference import objective_twin as twin
from reference import scoring_twin
from shoestring.data.example import Example
from shoestring.errors import ModelError, UnknownNameError
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.training.objective import OBJECTIVES, default_objective

pytestmark = pytest.mark.usefixtures("frozen_imports")
LONG = ("terrible", "not bad at all", "great")
REGRESSION = tiny.task_of(**tiny.REGRESSION)


def values(subject: PromptedModel) -> list[EncodedPrompt]:
    """Prompts of a regression task, both ends of the range among them."""
    numbers = (0.0, 5.0, 1.25, 4.0, 2.5)
    texts = [text for text, _ in tiny.rows(5, 5)]
    return subject.encode(Example(f"train:{n}", (t,), v) for n, (t, v) in enumerate(zip(texts, numbers, strict=True)))


def labels(prompts: list[EncodedPrompt]) -> list[int]:
    return [int(prompt.label) for prompt in prompts]


def of_scores(
    score: Callable[..., list[list[float]]], loss: Callable[..., float]
) -> Callable[[PromptedModel, list[EncodedPrompt]], float]:
    return lambda subject, prompts: loss(score(subject.model, prompts), labels(prompts))


def answers(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    rights = [prompt.options[int(prompt.label)] for prompt in prompts]
    pairs = zip(prompts, rights, strict=True)
    return twin.language_model([scoring_twin.answer_log_probs(subject.model, *pair) for pair in pairs])


def masked_answers(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    return twin.language_model([[value] for value in scoring_twin.masked_answers(subject.model, prompts)])


def poles(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    scores = scoring_twin.masked_scores(subject.model, prompts)
    return twin.two_poles(scores, [prompt.label for prompt in prompts], 0.0, 5.0)


def one_output(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    scores = scoring_twin.head_scores(subject.model, prompts)
    return twin.squared_error(scores, [prompt.label for prompt in prompts])


# Objective, family, and the slow way to compute it; every registered objective stands here at least once.
CASES = [
    ("cross-entropy", "roberta", "masked", of_scores(scoring_twin.masked_scores, twin.cross_entropy)),
    ("cross-entropy", "llama", "causal", of_scores(scoring_twin.causal_scores, twin.cross_entropy)),
    ("cross-entropy", "roberta", "head", of_scores(scoring_twin.head_scores, twin.cross_entropy)),
    ("accuracy", "roberta", "masked", of_scores(scoring_twin.masked_scores, twin.accuracy)),
    ("accuracy", "llama", "causal", of_scores(scoring_twin.causal_scores, twin.accuracy)),
    ("language-model", "llama", "causal", answers),
    ("language-model", "roberta", "masked", masked_answers),
    ("regression", "roberta", "masked", poles),
    ("regression", "roberta", "head", one_output),
]
IDS = [f"{name}-{kind}" for name, _, kind, _ in CASES]


def subject_of(
    name: str, architecture: str, kind: str, dtype: torch.dtype
) -> tuple[PromptedModel, list[EncodedPrompt]]:
    if name == "regression":
        subject = tiny.prompted(architecture, kind, task=REGRESSION, dtype=dtype, labels=1)
        return subject, values(subject)
    task = tiny.task_of(LONG) if kind == "causal" else None
    subject = tiny.prompted(architecture, kind, task=task, dtype=dtype)
    return subject, tiny.encoded(subject, 7)


@pytest.mark.parametrize(("name", "architecture", "kind", "slow"), CASES, ids=IDS)
def test_an_objective_is_what_a_loop_over_examples_gives(
    name: str, architecture: str, kind: str, slow: Callable[..., float]
) -> None:
    subject, prompts = subject_of(name, architecture, kind, torch.float64)
    with torch.no_grad():
        loss = OBJECTIVES.get(name).loss(subject, subject.collate(prompts))
    assert loss.shape == ()
    assert float(loss) == pytest.approx(slow(subject, prompts), rel=1e-6)


@pytest.mark.parametrize(("name", "architecture", "kind", "slow"), CASES, ids=IDS)
def test_an_objective_is_declared_differentiable_if_and_only_if_it_has_a_gradient(
    name: str, architecture: str, kind: str, slow: Callable[..., float]
) -> None:
    subject, prompts = subject_of(name, architecture, kind, torch.float32)
    loss = OBJECTIVES.get(name).loss(subject, subject.collate(prompts))
    assert loss.requires_grad == OBJECTIVES.get(name).differentiable
    if loss.requires_grad:
        loss.backward()
        grads = [param.grad for param in subject.model.parameters() if param.grad is not None]
        assert any(bool(grad.abs().sum() > 0) for grad in grads)
        assert all(bool(torch.isfinite(grad).all()) for grad in grads)


@pytest.mark.parametrize(("name", "architecture", "kind", "slow"), CASES, ids=IDS)
def test_losses_of_half_precision_models_are_float32(
    name: str, architecture: str, kind: str, slow: Callable[..., float]
) -> None:
    subject, prompts = subject_of(name, architecture, kind, torch.bfloat16)
    assert OBJECTIVES.get(name).loss(subject, subject.collate(prompts)).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_objective_says_what_it_is_for_and_is_tested_above(name: str) -> None:
    objective = OBJECTIVES.get(name)
    assert objective.kinds
    assert name in {case[0] for case in CASES}
    if objective.needs_vocabulary:
        subject = tiny.prompted("roberta", "head")
        with pytest.raises(ModelError, match="a model with a classification head"):
            objective.loss(subject, subject.collate(tiny.encoded(subject, 2)))


def test_every_kind_of_task_has_a_default_objective_that_is_defined_for_it() -> None:
    for kind in ("classification", "regression"):
        objective = OBJECTIVES.get(default_objective(kind))
        assert kind in objective.kinds
        assert objective.differentiable


def test_regression_between_poles_needs_a_range() -> None:
    subject, prompts = subject_of("regression", "roberta", "masked", torch.float32)
    without = replace(subject, task=tiny.task_of())
    with pytest.raises(ModelError, match=r"task tiny has no \[range\]"):
        OBJECTIVES.get("regression").loss(without, subject.collate(prompts))


def test_an_unknown_objective_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'crossentropy'; did you mean 'cross-entropy'"):
        OBJECTIVES.get("crossentropy")
