"""Kernels that solvers cannot take are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.solvers.explicit import TEST, TRAIN, asymmetric, features, gram, labels
from kernels.subjects import subject
from shoestring.errors import SolverError, UnknownNameError
from shoestring.kernels import Gram, Request, compute_kernels, gram_of
from shoestring.kernels.solvers.base import SOLVERS
from shoestring.kernels.solvers.targets import coded

ROWS, COLUMNS = features(1, TRAIN, 0), features(1, TEST, 1)
TARGETS = coded(labels(2), 1)


def solver(name: str, **settings: Any) -> Any:
    return SOLVERS.get(name)(**settings)


def test_several_outputs_are_refused_by_a_solver_of_two_classes() -> None:
    rows = features(3, TRAIN, 0)
    with pytest.raises(SolverError, match="the solver svc tells two classes apart, by one output; this kernel has 3"):
        solver("svc").fit(gram(rows, rows), coded(labels(3), 3))


@pytest.mark.parametrize(
    ("name", "settings", "remedy"),
    [
        ("ridge", {"regularization": 0}, "regularization more than 0"),
        ("ridge", {"candidates": [1e-300]}, "candidates larger values"),
        ("asymmetric", {"gamma": 0.5}, "another method.solver.gamma"),
    ],
)
def test_a_singular_system_is_named_with_its_remedy(name: str, settings: dict[str, Any], remedy: str) -> None:
    same = torch.ones(2, 1, 1, dtype=torch.float64)  # two examples of one feature, whose kernel has a 2
    with pytest.raises(SolverError, match=f"system of . equations is singular to working precision.*{remedy}"):
        solver(name, **settings).fit(gram(same, same), coded(torch.tensor([0, 1]), 1))


def test_least_squares_takes_a_singular_system() -> None:
    same = torch.ones(2, 1, 1, dtype=torch.float64)
    found = solver("least-squares").fit(gram(same, same), coded(torch.tensor([1, 1]), 1))
    assert found.predict(gram(same, same)).view(-1).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_kernel_that_is_not_finite_is_refused(value: float) -> None:
    train, test = gram(ROWS, ROWS), gram(ROWS, COLUMNS)
    broken = train.values.clone()
    broken[1, 0, 2, 0] = value
    with pytest.raises(SolverError, match=r"training kernel has 1 numbers that are not finite, the first at \[1, 0, 2"):
        solver("ridge").fit(replace(train, values=broken), TARGETS)
    fitted = solver("asymmetric").fit(train, TARGETS)
    broken = test.values.clone()
    broken[1, 0, 2, 0] = value
    with pytest.raises(SolverError, match="the kernel has 1 numbers"):
        fitted.predict(replace(test, values=broken))
    with pytest.raises(SolverError, match="the flipped kernel has 1 numbers"):
        fitted.predict(replace(test, flipped=broken))


def test_kernels_and_targets_of_other_shapes_are_refused() -> None:
    train, test = gram(ROWS, ROWS), gram(ROWS, COLUMNS)
    ridge = solver("ridge")
    with pytest.raises(SolverError, match=r"training kernel of shape \[9, 1, 5, 1\]: it must be of examples with them"):
        ridge.fit(test, TARGETS)
    with pytest.raises(SolverError, match=r"training kernel of shape \[9, 9\]"):
        ridge.fit(Gram(train.flat()), TARGETS)
    with pytest.raises(SolverError, match=r"targets of shape \[8, 1\] for a kernel of \[9, 1, 9, 1\]"):
        ridge.fit(train, TARGETS[1:])
    fitted = ridge.fit(train, TARGETS)
    with pytest.raises(SolverError, match=r"shape \[8, 1, 5, 1\] for a solver that was fitted on 9 examples with 1"):
        fitted.predict(gram(ROWS[1:], COLUMNS))
    with pytest.raises(SolverError, match=r"flipped kernel of shape \[9, 1, 9, 1\] beside one of \[9, 1, 5, 1\]"):
        solver("asymmetric").fit(train, TARGETS).predict(replace(test, flipped=train.values))


def test_a_missing_flipped_kernel_is_named() -> None:
    fitted = solver("asymmetric").fit(asymmetric(ROWS, ROWS), TARGETS)
    with pytest.raises(SolverError, match="needs the flipped kernel too"):
        fitted.predict(Gram(asymmetric(ROWS, COLUMNS).values))


@pytest.mark.parametrize("name", ["svc", "svr"])
def test_support_vectors_need_a_symmetric_positive_semi_definite_kernel(name: str) -> None:
    with pytest.raises(SolverError, match=f"solver {name} needs a symmetric kernel"):
        solver(name).fit(asymmetric(ROWS, ROWS), TARGETS)
    with pytest.raises(SolverError, match=f"solver {name} needs a positive semi-definite kernel, .* eigenvalue -"):
        solver(name).fit(Gram(-gram(ROWS, ROWS).values), TARGETS)


@pytest.mark.parametrize("name", ["svc", "logistic"])
def test_a_classifier_needs_both_classes(name: str) -> None:
    with pytest.raises(SolverError, match=f"solver {name} needs training examples of both classes"):
        solver(name).fit(gram(ROWS, ROWS), TARGETS.abs())


def test_choosing_needs_examples_to_leave_out() -> None:
    pair = gram(ROWS[:2], ROWS[:2])
    with pytest.raises(SolverError, match=r"too few to choose by folds: give method\.solver\.c"):
        solver("logistic").fit(pair, TARGETS[:2])
    with pytest.raises(SolverError, match="one training example cannot be left out"):
        solver("ridge").fit(gram(ROWS[:1], ROWS[:1]), TARGETS[:1])


def test_an_offset_needs_outputs() -> None:
    ridge = solver("ridge", f0_scaling=1.0)
    with pytest.raises(SolverError, match=r"own outputs are not given with this kernel, .* leave f0_scaling out"):
        ridge.fit(gram(ROWS, ROWS), TARGETS)
    for outputs in (TARGETS[1:], TARGETS * float("nan")):
        with pytest.raises(SolverError, match="the same shape is needed, and finite numbers"):
            ridge.fit(gram(ROWS, ROWS, outputs), TARGETS)


@pytest.mark.parametrize(("found", "outputs"), [([0, 2], 1), ([0, 3], 3), ([-1, 1], 1)])
def test_labels_of_no_class_are_refused(found: list[int], outputs: int) -> None:
    with pytest.raises(SolverError, match=rf"labels run from .* a kernel of {outputs} outputs tells"):
        coded(torch.tensor(found), outputs)


def test_kernels_of_other_examples_models_or_formulas_are_refused() -> None:
    one, other = subject("roberta"), subject("bert")
    names = ("asymmetric-signgd", "asymmetric-signgd-flipped", "sgd")

    def kernels(found: Any, rows: Any, columns: Any = None, formulas: Any = names) -> Any:
        return compute_kernels(Request(found.outputs, rows, columns, formulas, found.names("biases")))

    train, test = one.items[:3], one.items[3:]
    targets = coded(torch.tensor([0, 1, 0]), 1)
    own = kernels(one, train)
    fitted = solver("asymmetric").fit(gram_of(own, names[0]), targets)
    assert fitted.predict(gram_of(kernels(one, train, test), names[0])).shape == (2, 1)
    with pytest.raises(SolverError, match="differ in rows: they are of another task, model or seed"):
        fitted.predict(gram_of(kernels(one, [*train[1:], train[0]], test), names[0]))
    with pytest.raises(SolverError, match="differ in model, parameters: they"):
        fitted.predict(gram_of(kernels(other, train, test), names[0]))
    with pytest.raises(SolverError, match="differ in formula"):
        fitted.predict(gram_of(kernels(one, train, test), "sgd"))
    with pytest.raises(SolverError, match="of training examples and others needs asymmetric-signgd-flipped beside it"):
        gram_of(kernels(one, train, test, names[:1]), names[0])
    alone = gram_of(kernels(one, train, None, names[:1]), names[0])
    assert alone.flipped is not None
    torch.testing.assert_close(alone.flipped, own[names[1]].values)
    with pytest.raises(UnknownNameError, match="unknown kernel 'signgd'"):
        gram_of(own, "signgd")
