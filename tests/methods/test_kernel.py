"""Kernel regression: what it predicts, what it chooses, how it resumes, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

import tiny
from shoestring.errors import ConfigError, KernelError, SolverError
from shoestring.kernels import compute_kernels, jacobians, outputs_of
from shoestring.kernels.solvers.base import SOLVERS
from shoestring.methods import kernel as kernel_module
from shoestring.methods.base import Given, Outcome
from shoestring.methods.catalog.kernel import KernelRegression
from shoestring.models.evaluation import evaluate
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.runs.record import read_record
from shoestring.runs.run import run
from shoestring.tables.table import tabulate
from shoestring.tuning.catalog.bitfit import BitFit

THREE = ("terrible", "fine", "great")
BIASES: dict[str, Any] = {"tuning": {"kind": "bitfit"}}


def subject_of(labels: Sequence[str] = ("terrible", "great"), dtype: torch.dtype = torch.float64) -> PromptedModel:
    subject = tiny.prompted("roberta", "masked", task=tiny.task_of(tuple(labels)), dtype=dtype)
    BitFit().apply(subject.model, 0)
    return subject


def fit(subject: PromptedModel, folder: Path, lines: list[Any] | None = None, dev: int = 8, **settings: Any) -> Outcome:
    prompts, held = tiny.encoded(subject, 8), tiny.encoded(subject, dev, seed=6)
    log = [] if lines is None else lines
    given = Given(subject, prompts, held, 13, folder, log.append, Silent(), tiny.Unmeasured(), 32)
    return KernelRegression(**settings).fit(given)


def features(subject: PromptedModel, prompts: Any) -> Tensor:
    """Return gradients of all outputs, [N C, P]."""
    parts = [part.flatten(2) for _, part in jacobians(outputs_of(subject), prompts)]
    return torch.cat(parts, 2).flatten(0, 1)


@pytest.mark.parametrize("labels", [("terrible", "great"), THREE])
def test_kernel_regression_is_ridge_regression_on_gradients(labels: tuple[str, ...], tmp_path: Path) -> None:
    subject = subject_of(labels)
    train, test = tiny.encoded(subject, 8), tiny.encoded(subject, 5, seed=9)
    scale = float(torch.linalg.matrix_norm(features(subject, train), 2)) ** 2
    outcome = fit(subject, tmp_path, solver={"kind": "ridge", "regularization": 1e-3})
    count = 1 if len(labels) == 2 else 3
    targets = torch.nn.functional.one_hot(torch.tensor([prompt.label for prompt in train]), 3).double()
    targets = targets[:, 1:2] * 2 - 1 if count == 1 else targets
    ridge = Ridge(alpha=1e-3 * scale, fit_intercept=False, solver="svd")
    ridge.fit(features(subject, train).numpy(), targets.reshape(-1).numpy())
    expected = torch.from_numpy(ridge.predict(features(subject, test).numpy())).view(-1, count)
    scores = outcome.predictor.predict(test, 2)
    if count == 1:
        scores = scores[:, 1:] - scores[:, :1]
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-8)
    assert outcome.facts["outputs"] == count


@pytest.mark.parametrize("name", [name for name, solver in SOLVERS.items() if not solver.binary_only])
def test_every_solver_of_several_outputs_predicts_three_classes(name: str, tmp_path: Path) -> None:
    subject = subject_of(THREE)
    settings = {"kind": name} | ({"c": 1.0} if name == "logistic" else {})
    outcome = fit(subject, tmp_path, solver=settings)
    assert outcome.predictor.predict(tiny.encoded(subject, 4, seed=9), 32).shape == (4, 3)


@pytest.mark.parametrize("select", ["metric", "loss"])
def test_a_grid_keeps_what_does_best_on_dev(select: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of()
    computed: list[int] = []

    def counting(request: Any, *given: Any, **named: Any) -> Any:
        computed.append(len(request.columns or ()))
        return compute_kernels(request, *given, **named)

    monkeypatch.setattr(kernel_module, "compute_kernels", counting)
    amounts, lines = (10.0, 1e-1, 1e-4, 1e-1), list[Any]()
    solver = {"kind": "ridge", "f0_scaling": 1.0, "absolute": True}
    outcome = fit(subject, tmp_path, lines, solver=solver, grid={"regularization": amounts}, select=select)
    assert computed == [0, 8]
    dev = tiny.encoded(subject, 8, seed=6)
    name = "accuracy" if select == "metric" else "loss"
    alone = [fit(subject, tmp_path, solver=solver | {"regularization": amount}) for amount in amounts]
    found = [evaluate(subject.task, dev, one.predictor.predict(dev, 32))[name] for one in alone]
    gains = [value if select == "metric" else -value for value in found]
    best = gains.index(max(gains))
    assert outcome.facts["selected"] == {"regularization": amounts[best]}
    assert [one[name] for one in outcome.facts["grid"]] == pytest.approx(found)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert [line[f"dev_{name}"] for line in lines] == pytest.approx(found)
    assert torch.equal(outcome.predictor.predict(dev, 32), alone[best].predictor.predict(dev, 32))


def test_a_grid_goes_over_every_combination_in_order() -> None:
    method = KernelRegression(
        solver={"kind": "asymmetric", "gamma": 3.0},
        grid={"mix": (0.0, 1.0), "gamma": (1.0, 2.0)},
    )
    assert [chosen for chosen, _ in method.solvers()] == [
        {"gamma": gamma, "mix": mix} for gamma in (1.0, 2.0) for mix in (0.0, 1.0)
    ]
    assert [(solver.gamma, solver.mix) for _, solver in method.solvers()] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_what_cannot_be_solved_is_told_and_the_rest_of_a_grid_goes_on(tmp_path: Path) -> None:
    subject = subject_of(dtype=torch.float32)
    prompts = tiny.encoded(subject, 4)
    given = Given(subject, [*prompts, prompts[0]], prompts, 1, tmp_path, print, Silent(), tiny.Unmeasured(), 8)
    method = KernelRegression(solver={"kind": "ridge"}, grid={"regularization": (0.0, 1e-3)})
    facts = method.fit(given).facts
    assert "is singular to working precision" in facts["grid"][0]["error"]
    assert facts["selected"] == {"regularization": 1e-3}
    with pytest.raises(SolverError, match=r"is singular to working precision.*regularization more than 0"):
        KernelRegression(solver={"kind": "ridge"}, grid={"regularization": (0.0, 0.0)}).fit(given)


def test_a_grid_needs_dev_examples(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match=r"method\.grid is chosen from on dev, and there are no dev examples"):
        fit(subject_of(), tmp_path, dev=0, grid={"regularization": [0.0, 1.0]})


class Bar:
    def __init__(self) -> None:
        self.steps = list[int]()

    def advance(self, steps: int = 1) -> None:
        self.steps.append(steps)

    def note(self, text: str) -> None:
        pass


@pytest.mark.parametrize("formula", ["sgd", "asymmetric-signgd"])
def test_predictions_do_not_depend_on_how_many_are_made_at_once(
    formula: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of()
    prompts = tiny.encoded(subject, 7, seed=9)
    solver = "asymmetric" if formula != "sgd" else "least-squares"
    settings = {"formula": formula, "solver": {"kind": solver, "f0_scaling": 1.0, "regularization": 1e-2}}
    whole = fit(subject, tmp_path / "a", **settings).predictor.predict(prompts, 32)
    monkeypatch.setattr(kernel_module, "_LEAST", 3)
    monkeypatch.setattr(kernel_module, "_SHARE", 0)
    bar, told = Bar(), dict[int, Tensor]()
    parts = fit(subject, tmp_path / "b", **settings).predictor.predict(prompts, 2, bar, told.__setitem__)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    assert sum(bar.steps) == 7
    assert list(told) == list(range(7))
    assert torch.equal(torch.stack(list(told.values())), parts)
    assert fit(subject, tmp_path / "b", **settings).predictor.predict([], 2).shape[0] == 0


def test_weights_can_be_left_out(tmp_path: Path) -> None:
    subject = tiny.prompted("roberta", "masked", dtype=torch.float64)
    prompts = tiny.encoded(subject, 3, seed=9)
    norms = {}
    for exclude in ((), ("head",), ("embeddings",), ("embeddings", "head")):
        outcome: Any = fit(subject, tmp_path, exclude=exclude)
        norms[exclude] = outcome.predictor.source.gram(prompts, None, 8, Silent()).values
    rest = norms["embeddings", "head"]
    torch.testing.assert_close(norms[()] - norms["head",], norms["embeddings",] - rest)
    assert not torch.allclose(norms[()], norms["head",])
    subject.model.requires_grad_(False)
    subject.model.lm_head.bias.requires_grad_(True)
    with pytest.raises(KernelError, match="no parameter is chosen"):
        fit(subject, tmp_path, exclude=["head"])


def test_cosines_and_projections_are_those_of_the_kernels(tmp_path: Path) -> None:
    subject = subject_of()
    prompts = tiny.encoded(subject, 4, seed=9)
    outcome: Any = fit(subject, tmp_path, cosine=True)
    values = outcome.predictor.source.gram(prompts, None, 8, Silent()).values[:, 0, :, 0]
    torch.testing.assert_close(values.diagonal(), torch.ones(4, dtype=torch.float64))
    rows = features(subject, prompts)
    rows = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(values, rows @ rows.T)
    sides: list[Any] = [fit(subject, tmp_path, projection=side).predictor for side in (3, 1000)]
    few, all_of_them = (one.source.gram(prompts, None, 8, Silent()).values for one in sides)
    rows = features(subject, prompts)
    torch.testing.assert_close(all_of_them[:, 0, :, 0], rows @ rows.T)
    assert not torch.allclose(few, all_of_them)


def config(model: Path, data: Path, out: Path, /, **sections: Any) -> Any:
    return tiny.config(model, data, out, **({"method": {"kind": "kernel"}} | sections))


def test_a_run_stands_in_the_table_beside_others(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    methods = (
        {"kind": "kernel", "solver": "ridge", "grid": {"regularization": [1e-3, 1e-1]}},
        {"kind": "mezo", "steps": 2, "batch_size": 4, "lr": 1e-3, "eval_every": 2},
    )
    records = [run(config(tiny_masked_folder, tiny_original, tmp_path, method=method, **BIASES)) for method in methods]
    assert all(record.status == "ok" for record in records)
    facts = records[0].facts
    assert facts["selected"]["regularization"] in (1e-3, 1e-1)
    assert facts["kernel_seconds"] > 0
    assert records[0].passes is not None
    assert records[0].passes.backward_examples >= 16
    table = tabulate(records)
    assert [row for row in table.rows if "kernel" in str(row)]
    assert [row for row in table.rows if "mezo" in str(row)]
    assert not (tmp_path / records[0].run_id / "checkpoints").exists()


class PowerError(Exception):
    """The power fails."""


def test_an_interrupted_run_goes_on_with_the_kernels_it_has(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"method": {"kind": "kernel", "grid": {"regularization": [0.0, 0.1]}}} | BIASES
    chosen = config(tiny_masked_folder, tiny_original, tmp_path / "cut", **settings)
    whole = run(config(tiny_masked_folder, tiny_original, tmp_path / "whole", **settings))

    def failing(*_: Any, **__: Any) -> Any:
        raise PowerError

    with monkeypatch.context() as patch:
        patch.setattr(kernel_module, "evaluate", failing)
        with pytest.raises(PowerError):
            run(chosen)
    resumed = run(chosen)
    assert resumed.facts["kernel_resumed"]
    assert not whole.facts["kernel_resumed"]
    assert resumed.metrics == whole.metrics
    assert resumed.facts["selected"] == whole.facts["selected"]
    assert resumed.passes is not None
    assert whole.passes is not None
    assert resumed.passes.backward_examples < whole.passes.backward_examples
    paths = [tmp_path / name / chosen.run_id / "predictions.jsonl" for name in ("cut", "whole")]
    assert paths[0].read_text() == paths[1].read_text()
    assert read_record(chosen.folder) == resumed


@pytest.mark.parametrize(
    ("method", "sections", "message"),
    [
        ({"formula": "sdg"}, {}, r"method.formula: unknown formula 'sdg'; did you mean 'sgd'"),
        ({"solver": "lasso"}, {}, r"method.solver.kind: there is no 'lasso'. Allowed: asymmetric"),
        ({"solver": "svc", "formula": "asymmetric-signgd"}, {}, "solver.kind='svc' needs a symmetric kernel"),
        ({"projection": 8, "formula": "signgd"}, {}, "projection keeps inner products of gradients, but formula='sig"),
        ({"select": "loss"}, {}, "select has no effect without a grid"),
        ({"grid": {"gamma": [1.0]}}, {}, "grid.gamma: the solver least-squares has regularization, absolute, f0_scal"),
        ({"grid": {"regularization": []}}, {}, "grid.regularization is empty"),
        ({"grid": {"regularization": [-1]}}, {}, "grid.regularization: Input should be greater than or equal to 0, no"),
        ({"solver": "svc"}, {"task": "trec"}, "solver.kind='svc' tells two classes apart, and trec has 6"),
        ({"solver": "svc"}, {"task": "STS-B"}, "solver.kind='svc' tells classes apart, and STS-B asks for a number"),
        ({"solver": "descent"}, {"task": "STS-B"}, "solver.kind='descent' tells classes apart, and STS-B asks for a"),
        ({}, {"task": "mezo/SQuAD", "model": {"kind": "causal"}}, "'kernel' writes no answers, which mezo/SQuAD asks"),
        ({}, {"tuning": {"kind": "lora", "dropout": 0.1}}, "dropout=0.1 has no effect: .* looks at the pretrained mod"),
        (
            {"grid": {"regularization": [0, 1]}},
            {"data": {"mode": "subset", "k": 16, "num_train": 4}},
            "data.num_dev is needed: method.kind='kernel' chooses settings on dev",
        ),
        (
            {},
            {"data": {"mode": "subset", "k": 16, "num_train": 0}},
            "data.num_train=0 leaves method.kind='kernel' nothing",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    method: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(Path("model"), Path("data"), Path("out"), method={"kind": "kernel"} | method, **sections)


def test_a_subset_without_dev_examples_is_enough_where_nothing_is_chosen() -> None:
    data = {"mode": "subset", "k": 16, "num_train": 4}
    found = config(Path("model"), Path("data"), Path("out"), data=data)
    assert found.data.num_dev is None
