"""Kernels of scores that are made of several inputs, and of values, against autograd of the formula itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from reference import kernel_twin
from shoestring.kernels import KernelSettings, Request, compute_kernels, jacobians, outputs_of
from shoestring.models.prompted import PromptedModel, evaluating
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.settings import PromptSettings

Score = Callable[[EncodedPrompt], Tensor]
Formula = Callable[[Score, EncodedPrompt], Tensor]


def mean(score: Score, prompt: EncodedPrompt) -> Tensor:
    ways = (prompt, *prompt.variants)
    return sum((score(way) for way in ways), torch.zeros(())) / len(ways)


def surface_form(score: Score, prompt: EncodedPrompt) -> Tensor:
    ways = (prompt, *prompt.variants)
    return sum((score(way) - score(way.calibrations[0]) for way in ways), torch.zeros(())) / len(ways)


def contextual(score: Score, prompt: EncodedPrompt) -> Tensor:
    prior = torch.stack([score(one).softmax(0) for one in prompt.calibrations]).mean(0)
    return (score(prompt).softmax(0) / prior).log()


def value_of(score: Score, prompt: EncodedPrompt) -> Tensor:
    """Return 5 p(high pole), which task_of(**REGRESSION) asks for; the mean over ways."""
    ways = (prompt, *prompt.variants)
    return (sum((5 * score(way).softmax(0)[1] for way in ways), torch.zeros(())) / len(ways))[None]


def ways(subject: PromptedModel, prompts: list[EncodedPrompt], variants: int, calibrations: int) -> list[EncodedPrompt]:
    """Return the prompts asked in further ways and calibrated, by other prompts with the same candidates."""
    others = tiny.encoded(subject, 12, seed=8)

    def calibrated(one: EncodedPrompt, first: int) -> EncodedPrompt:
        return replace(one, calibrations=tuple(others[(first + n) % 12] for n in range(calibrations)))

    return [
        replace(
            calibrated(prompt, 0),
            variants=tuple(calibrated(others[(3 * number + way) % 12], way) for way in range(variants)),
        )
        for number, prompt in enumerate(prompts)
    ]


CASES: dict[str, tuple[Formula, int, int, str | None]] = {
    "ensemble": (mean, 2, 0, None),
    "surface form": (surface_form, 0, 1, "surface-form"),
    "surface form of an ensemble": (surface_form, 1, 1, "surface-form"),
    "contextual": (contextual, 0, 3, "contextual"),
}
# Single tokens at a mask; candidates of several tokens, of which each is a row of its own, or all share one.
MODELS = {
    "masked": ("roberta", ("terrible", "great")),
    "causal": ("opt", ("not good", "great")),
    "llama": ("llama", ("not good at all", "great")),
}
# The norms of the last are in float32, so that signs of small gradients are not to be trusted: one case is enough.
TRIED = [(model, case, route) for model in ("masked", "causal") for case in CASES for route in ("auto", "autograd")]
TRIED += [("llama", "contextual", "autograd")]
FORMULAS = ("sgd", "signgd", "asymmetric-signgd")


def rows_of(subject: PromptedModel, prompts: list[EncodedPrompt], formula: Formula, names: list[str], two: bool) -> Any:
    """Return values [N, C] and gradients, by autograd of the formula, one input at a time."""
    params = [param for name, param in subject.model.named_parameters() if name in names]
    values, rows = [], []
    with torch.enable_grad(), evaluating(subject.model):
        for prompt in prompts:
            found = formula(lambda one: subject.scores(subject.collate([one]))[0], prompt)
            found = found[1:] - found[:1] if two else found
            row = []
            for value in found:
                grads = torch.autograd.grad(value, params, retain_graph=True, allow_unused=True)
                made = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params, strict=True)]
                row.append({n: g.detach().double().reshape(-1) for n, g in zip(names, made, strict=True)})
            rows.append(row)
            values.append(found.detach().double())
    return torch.stack(values), rows


def check(subject: PromptedModel, prompts: list[EncodedPrompt], formula: Formula, two: bool, route: str) -> None:
    names = [n for n, _ in subject.model.named_parameters() if "bias" not in n and "embed" not in n]
    values, rows = rows_of(subject, prompts, formula, names, two)
    outputs = outputs_of(subject)
    settings = KernelSettings(batch_size=2, route=route)  # type: ignore[arg-type]
    found = compute_kernels(Request(outputs, prompts[:2], prompts[2:], FORMULAS, names), settings)
    for name, kernel in found.items():
        wanted = kernel_twin.kernel(name, rows[:2], rows[2:])
        rtol = 1e-9 if "signgd" not in name else 1e-6
        torch.testing.assert_close(kernel.values, wanted, rtol=rtol, atol=1e-9 * float(wanted.abs().max()))
        torch.testing.assert_close(kernel.row_outputs, values[:2], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(kernel.column_outputs, values[2:], rtol=1e-9, atol=1e-12)
        assert kernel.description["autograd"] == ([] if route == "auto" else list(kernel.description["parameters"]))
    gradients = dict(jacobians(outputs, prompts, names, KernelSettings(batch_size=3)))
    for name, value in gradients.items():
        stacked = torch.stack([torch.stack([out[name] for out in row]) for row in rows])
        torch.testing.assert_close(value.flatten(2), stacked, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("model", "case", "route"), TRIED)
def test_kernels_of_combined_scores_are_those_of_the_formula(model: str, case: str, route: str) -> None:
    (architecture, words), (formula, variants, calibrations, calibration) = MODELS[model], CASES[case]
    task = tiny.task_of((*words, "fine") if case == "ensemble" else words)
    subject = tiny.prompted(architecture, "masked" if model == "masked" else "causal", task=task, dtype=torch.float64)
    subject = replace(subject, settings=PromptSettings.model_validate({"calibration": calibration}))
    check(subject, ways(subject, tiny.encoded(subject, 4), variants, calibrations), formula, case != "ensemble", route)


@pytest.mark.parametrize("variants", [0, 2])
def test_of_a_task_that_asks_for_a_value_the_output_is_the_value(variants: int) -> None:
    subject = tiny.prompted("roberta", "masked", task=tiny.task_of(**tiny.REGRESSION), dtype=torch.float64)
    check(subject, ways(subject, tiny.encoded(subject, 4), variants, 0), value_of, two=False, route="auto")


def test_of_a_head_for_a_value_the_output_is_what_it_gives() -> None:
    subject = tiny.prompted("roberta", "head", task=tiny.task_of(**tiny.REGRESSION), labels=1, dtype=torch.float64)
    prompts = tiny.encoded(subject, 4)
    check(subject, prompts, lambda score, prompt: score(prompt), two=False, route="auto")


def test_what_scores_are_made_of_is_part_of_what_a_kernel_depends_on() -> None:
    subject = tiny.prompted("opt", "causal", dtype=torch.float64)
    changes: list[dict[str, Any]] = [
        {},
        {"score": "sum"},
        {"calibration": "contextual"},
        {"calibration": "surface-form"},
    ]
    labels = [outputs_of(replace(subject, settings=PromptSettings.model_validate(one))).label for one in changes]
    assert len(set(labels)) == 4
