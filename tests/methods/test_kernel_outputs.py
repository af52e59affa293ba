"""Kernel regression of values, and of examples that are asked in several ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

import tiny
from methods.test_kernel import Bar, config, features, fit, subject_of
from shoestring.methods.base import Given
from shoestring.methods.catalog.kernel import KernelRegression
from shoestring.models.prompted import predictions
from shoestring.progress import Silent
from shoestring.runs.run import run
from shoestring.tuning.catalog.bitfit import BitFit


@pytest.mark.parametrize("kind", ["masked", "head"])
@pytest.mark.parametrize("solver", ["ridge", "least-squares"])
def test_of_a_task_that_asks_for_a_number_the_kernel_predicts_what_the_model_is_off_by(
    kind: str, solver: str, tmp_path: Path
) -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = tiny.prompted("roberta", kind, task=task, labels=1, dtype=torch.float64)
    BitFit().apply(subject.model, 0)
    train, test = tiny.encoded(subject, 8), tiny.encoded(subject, 5, seed=9)
    assert {prompt.label for prompt in train} == {0.0, 1.0}
    scale = float(torch.linalg.matrix_norm(features(subject, train), 2)) ** 2
    outcome = fit(subject, tmp_path, solver={"kind": solver, "regularization": 1e-3, "f0_scaling": 1.0})
    first, later = (predictions(task, subject.predict(prompts, 8)) for prompts in (train, test))
    targets = torch.tensor([prompt.label for prompt in train]).double()
    ridge = Ridge(alpha=1e-3 * scale, fit_intercept=False, solver="svd")
    ridge.fit(features(subject, train).numpy(), (targets - first).numpy())
    expected = later + torch.from_numpy(ridge.predict(features(subject, test).numpy()))
    rtol = 1e-6 if solver == "ridge" else 1e-4
    torch.testing.assert_close(predictions(task, outcome.predictor.predict(test, 2)), expected, rtol=rtol, atol=1e-8)
    assert outcome.facts["outputs"] == 1


def test_a_task_that_asks_for_a_number_runs(tiny_masked_folder: Path, tmp_path: Path) -> None:
    rows = "".join(f"{text}\t{0.5 + 4 * int(label)}\n" for text, label in tiny.rows(40, 3))
    (tmp_path / "data.tsv").write_text("text\tscore\n" + rows)
    data = {"source": str(tmp_path / "data.tsv"), "text_columns": ["text"], "label_column": "score", "k": 8}
    task = tiny.task_of(**tiny.REGRESSION).model_dump(mode="json")
    method = {"kind": "kernel", "solver": "ridge", "grid": {"f0_scaling": [1.0, 10.0]}}
    record = run(config(tiny_masked_folder, tmp_path, tmp_path / "runs", task=task, data=data, method=method))
    assert set(record.metrics["test"]) == {"pearson", "loss"}
    assert [one["pearson"] for one in record.facts["grid"]]


def test_examples_asked_in_several_ways_are_solved_as_they_are_scored(tmp_path: Path) -> None:
    subject = subject_of()
    others = tiny.encoded(subject, 8, seed=8)
    twice = [replace(one, variants=(other,)) for one, other in zip(tiny.encoded(subject, 8), others, strict=True)]
    bar, told = Bar(), dict[int, Tensor]()
    given = Given(subject, twice, (), 13, tmp_path, print, Silent(), tiny.Unmeasured(), 32)
    outcome = KernelRegression(solver={"kind": "ridge", "regularization": 0.1, "f0_scaling": 1.0}).fit(given)
    scores = outcome.predictor.predict(twice[:3], 2, bar, told.__setitem__)
    assert sum(bar.steps) == 6
    rows = features(subject, twice)
    start = subject.predict(twice, 8) @ torch.tensor([-1.0, 1.0], dtype=torch.float64)
    targets = torch.tensor([2.0 * prompt.label - 1 for prompt in twice]).double() - start
    amount = 0.1 * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    ridge = Ridge(alpha=amount, fit_intercept=False, solver="svd").fit(rows.numpy(), targets.numpy())
    expected = start[:3] + torch.from_numpy(ridge.predict(rows[:3].numpy()))
    torch.testing.assert_close(scores[:, 1] - scores[:, 0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "prompt",
    [
        {"calibration": "contextual"},
        {"templates": ["lm-bff", "*cls**sent_0*_So*mask*.*sep+*"]},
        {"demonstrations": {"kind": "per-label", "samples": 2}},
    ],
    ids=["calibrated", "ensemble", "demonstrations"],
)
def test_a_run_with_prompts_of_several_inputs_predicts_by_its_zero_shot_scores_and_the_kernel(
    prompt: dict[str, object], tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    solver = {"kind": "ridge", "regularization": 1e9, "absolute": True, "f0_scaling": 1.0}
    shared = {"data": {"k": 4, "max_test": 6}, "tuning": {"kind": "bitfit"}, "prompt": prompt}
    # So much regularization leaves the model's own scores, which are those of all inputs together.
    record = run(
        config(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "kernel", "solver": solver}, **shared)
    )
    plain = {key: value for key, value in shared.items() if key != "tuning"}
    kind = "in-context" if "demonstrations" in prompt else "zero-shot"
    zero = run(config(tiny_masked_folder, tiny_original, tmp_path, method={"kind": kind}, **plain))
    assert record.metrics["test"]["loss"] == pytest.approx(zero.metrics["test"]["loss"], rel=1e-4)
    assert record.metrics["test"]["accuracy"] == zero.metrics["test"]["accuracy"]
