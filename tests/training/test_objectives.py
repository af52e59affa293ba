from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import tiny
from reference import generation_twin, scoring_twin
from reference import objective_twin as twin
from reference.metrics_twin import TEXT_TWINS
from shoestring.data.example import Example
from shoestring.errors import ModelError, UnknownNameError
from shoestring.models.prompted import PromptedModel
from shoestring.models.settings import GenerationSettings
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


def chosen(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    return twin.cross_entropy(scoring_twin.causal_scores(subject.model, prompts), labels(prompts))


def any_right(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    scores = scoring_twin.causal_scores(subject.model, prompts)
    best = [row.index(max(row)) for row in scores]
    return -sum(number in prompt.right for number, prompt in zip(best, prompts, strict=True)) / len(prompts)


def decoded(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    golds = [prompt.options[0] for prompt in prompts]
    pairs = zip(prompts, golds, strict=True)
    return twin.language_model([scoring_twin.decoded_log_probs(subject.model, *pair) for pair in pairs])


def whole_texts(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
    texts = [(*prompt.ids, *prompt.options[int(prompt.label)]) for prompt in prompts]
    starts = [replace(prompt, ids=text[:1]) for prompt, text in zip(prompts, texts, strict=True)]
    rests = [text[1:] for text in texts]
    pairs = zip(starts, rests, strict=True)
    return twin.language_model([scoring_twin.answer_log_probs(subject.model, *pair) for pair in pairs])


def written(name: str) -> Callable[[PromptedModel, list[EncodedPrompt]], float]:
    def slow(subject: PromptedModel, prompts: list[EncodedPrompt]) -> float:
        texts = written_slowly(subject, prompts)
        worths = [TEXT_TWINS[name](text, prompt.golds) for text, prompt in zip(texts, prompts, strict=True)]
        return -sum(worths) / len(worths)

    return slow


def written_slowly(subject: PromptedModel, prompts: list[EncodedPrompt]) -> list[str]:
    generator = subject.generator
    assert generator is not None
    stops, most = generator.stops(subject.model), generator.limits.max_new_tokens
    return [generator.text(generation_twin.answer(subject.model, prompt.ids, stops, most), stops) for prompt in prompts]


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
    ("cross-entropy: chosen", "llama", "causal", chosen),
    ("accuracy: chosen", "llama", "causal", any_right),
    ("language-model: chosen", "llama", "causal", answers),
    ("language-model: written", "llama", "causal", answers),
    ("language-model: written", "t5", "seq2seq", decoded),
    ("whole-text", "llama", "causal", whole_texts),
    ("whole-text: written", "opt", "causal", whole_texts),
    *((f"{name}: written", "llama", "causal", written(name)) for name in TEXT_TWINS),
    ("token-f1: written", "t5", "seq2seq", written("token-f1")),
]
IDS = [f"{name}-{kind}" for name, _, kind, _ in CASES]


def subject_of(
    name: str, architecture: str, kind: str, dtype: torch.dtype
) -> tuple[PromptedModel, list[EncodedPrompt]]:
    if name.endswith(": chosen"):
        subject = tiny.prompted(architecture, kind, task=tiny.task_of(**tiny.CHOSEN), dtype=dtype)
        return subject, subject.encode(tiny.answered())
    if name.endswith(": written"):
        return writing(tiny.prompted(architecture, kind, task=tiny.task_of(**tiny.WRITTEN), dtype=dtype))
    if name == "regression":
        subject = tiny.prompted(architecture, kind, task=REGRESSION, dtype=dtype, labels=1)
        return subject, values(subject)
    task = tiny.task_of(LONG) if kind == "causal" else None
    subject = tiny.prompted(architecture, kind, task=task, dtype=dtype)
    return subject, tiny.encoded(subject, 7)


def writing(subject: PromptedModel) -> tuple[PromptedModel, list[EncodedPrompt]]:
    """Prompts with right answers that the model's own are worth something, each something else."""
    prompts = subject.encode(tiny.answered())
    texts = written_slowly(subject, prompts)
    forms = (("no", "{}"), ("no {} x",), ("{}!",), ("no",), (" {}\n", "no"), ("x y",))
    golds = [tuple(form.replace("{}", text) for form in own) for text, own in zip(texts, forms, strict=True)]
    return subject, [replace(prompt, golds=own) for prompt, own in zip(prompts, golds, strict=True)]


def loss_of(name: str, subject: PromptedModel, prompts: list[EncodedPrompt]) -> torch.Tensor:
    objective = OBJECTIVES.get(name.split(":")[0])
    return objective.loss(subject, objective.prepare(subject.collate(prompts), prompts))


@pytest.mark.parametrize(("name", "architecture", "kind", "slow"), CASES, ids=IDS)
def test_an_objective_is_what_a_loop_over_examples_gives(
    name: str, architecture: str, kind: str, slow: Callable[..., float]
) -> None:
    subject, prompts = subject_of(name, architecture, kind, torch.float64)
    with torch.no_grad():
        loss = loss_of(name, subject, prompts)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(slow(subject, prompts), rel=1e-6)


@pytest.mark.parametrize(("name", "architecture", "kind", "slow"), CASES, ids=IDS)
def test_an_objective_is_declared_differentiable_if_and_only_if_it_has_a_gradient(
    name: str, architecture: str, kind: str, slow: Callable[..., float]
) -> None:
    subject, prompts = subject_of(name, architecture, kind, torch.float32)
    loss = loss_of(name, subject, prompts)
    assert loss.requires_grad == OBJECTIVES.get(name.split(":")[0]).differentiable
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
    assert loss_of(name, subject, prompts).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_objective_says_what_it_is_for_and_is_tested_above(name: str) -> None:
    objective = OBJECTIVES.get(name)
    assert objective.kinds
    assert name in {case[0].split(":")[0] for case in CASES}
    if objective.needs_vocabulary:
        subject = tiny.prompted("roberta", "head")
        message = "only a causal model" if objective.needs_causal else "a model with a classification head|no generator"
        prompts = tiny.encoded(subject, 2)
        batch: Any = subject.collate(prompts) | ({} if objective.repeats else {"prompts": prompts})
        with pytest.raises(ModelError, match=message):
            objective.loss(subject, batch)


def test_every_kind_of_task_has_a_default_objective_that_is_defined_for_it() -> None:
    for kind in ("classification", "regression", "multiple-choice", "generation"):
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


def test_written_answers_of_a_broken_model_are_worth_nothing_that_is_a_number() -> None:
    subject, prompts = subject_of("token-f1: written", "llama", "causal", torch.float32)
    word = next(token for token in prompts[0].ids if token not in prompts[1].ids)
    broken = [word in prompt.ids for prompt in prompts]
    model: Any = subject.model
    with torch.no_grad():
        model.model.embed_tokens.weight[word] = torch.nan
    objective = OBJECTIVES.get("token-f1")
    losses = objective.losses(subject, objective.prepare(subject.collate(prompts), prompts))
    assert losses.isnan().tolist() == broken
    assert not all(broken)


def test_written_answers_are_greedy_whatever_the_run_writes_with() -> None:
    subject, prompts = subject_of("token-f1: written", "llama", "causal", torch.float64)
    assert subject.generator is not None
    drawing = replace(subject, generator=replace(subject.generator, settings=GenerationSettings(sampling=True)))
    assert float(loss_of("token-f1", drawing, prompts)) == pytest.approx(written("token-f1")(subject, prompts))
