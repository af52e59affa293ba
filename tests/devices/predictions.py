"""Predictions, features and generation on a device that refuses tensors of the main memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import tiny
from devices import simulated
from shoestring.models.features import states
from shoestring.models.prediction import scored
from shoestring.models.prompted import PromptedModel

MODELS = [("roberta", "masked"), ("opt", "causal"), ("llama", "causal"), ("t5", "seq2seq"), ("roberta", "head")]
WRITING = [("opt", "causal"), ("llama", "causal"), ("bart", "seq2seq")]


def scores(subject: PromptedModel) -> dict[int, torch.Tensor]:
    return dict(scored(subject, subject.encode(tiny.examples(6)), 4))


def label_words(subject: PromptedModel) -> dict[int, torch.Tensor]:
    return dict(states(subject, subject.encode(tiny.examples(6)), "label-word", 4))


def means(subject: PromptedModel) -> dict[int, torch.Tensor]:
    return dict(states(subject, subject.encode(tiny.examples(6)), "mean", 4))


def there(architecture: str, kind: Any, compute: Callable[[PromptedModel], Any], **settings: Any) -> tuple[Any, Any]:
    """Return what is computed on the CPU and on the other device."""
    here, other = (tiny.prompted(architecture, kind, **settings) for _ in range(2))
    expected = compute(here)
    simulated.put(other.model)
    with simulated.running():
        return expected, compute(other)


@pytest.mark.parametrize("compute", [scores, label_words, means])
@pytest.mark.parametrize(("architecture", "kind"), MODELS)
def test_numbers_are_those_of_the_cpu(architecture: str, kind: str, compute: Any) -> None:
    expected, found = there(architecture, kind, compute)
    assert expected.keys() == found.keys()
    for number, row in expected.items():
        assert type(found[number]) is torch.Tensor
        torch.testing.assert_close(found[number], row, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize(("architecture", "kind"), WRITING)
def test_answers_are_those_of_the_cpu(architecture: str, kind: str, share: bool) -> None:
    def answers(subject: PromptedModel) -> Sequence[str]:
        assert subject.generator is not None
        prompts = subject.encode(tiny.answered(5))
        return subject.generator.generate(subject.model.eval(), prompts, 3, share=share and kind == "causal")

    expected, found = there(architecture, kind, answers, task=tiny.task_of(**tiny.WRITTEN))
    assert found == expected
    assert any(expected)
