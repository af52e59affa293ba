"""Solvers against numpy and scikit-learn, on kernels of features that are written out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import svm
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.linear_model import Ridge as LinearRidge
from torch import Tensor

from kernels.solvers.explicit import SIZE, TEST, TRAIN, asymmetric, at_rest, features, gram, labels
from shoestring.kernels.solvers.base import SOLVERS
from shoestring.kernels.solvers.catalog.asymmetric import Asymmetric
from shoestring.kernels.solvers.catalog.least_squares import LeastSquares
from shoestring.kernels.solvers.catalog.logistic import Logistic
from shoestring.kernels.solvers.catalog.ridge import Ridge
from shoestring.kernels.solvers.catalog.svc import SVC
from shoestring.kernels.solvers.catalog.svr import SVR
from shoestring.kernels.solvers.gram import Gram
from shoestring.kernels.solvers.targets import coded, scores_of

CLASSES = {1: 2, 3: 3}
BINARY = ("svc",)


def case(outputs: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return features of training examples and of others, and targets."""
    targets = coded(labels(CLASSES[outputs]), outputs)
    return features(outputs, TRAIN, seed), features(outputs, TEST, seed + 1), targets


def flat(rows: Tensor) -> Any:
    return rows.reshape(-1, rows.shape[-1]).numpy()


def close(found: Tensor, expected: Any, rtol: float = 1e-7) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).reshape(found.shape), rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(
    "solver", [Ridge(regularization=0.3, absolute=True), LeastSquares(regularization=0.3, absolute=True)]
)
def test_kernel_regression_of_a_linear_model_is_ridge_regression(solver: Any, outputs: int) -> None:
    rows, columns, targets = case(outputs)
    found = solver.fit(gram(rows, rows), targets).predict(gram(rows, columns))
    ridge = LinearRidge(alpha=0.3, fit_intercept=False, solver="cholesky").fit(flat(rows), targets.reshape(-1).numpy())
    close(found, ridge.predict(flat(columns)))


@pytest.mark.parametrize("outputs", [1, 3])
def test_least_squares_without_regularization_is_the_shortest_solution(outputs: int) -> None:
    rows, columns, targets = case(outputs)
    fitted = LeastSquares().fit(gram(rows, rows), targets)
    weights = np.linalg.pinv(flat(rows)) @ targets.reshape(-1).numpy()
    close(fitted.predict(gram(rows, columns)), flat(columns) @ weights)
    assert fitted.facts == {"rank": SIZE}


@pytest.mark.parametrize("make", [gram, asymmetric])
@pytest.mark.parametrize("solver", [LeastSquares(), Ridge(regularization=0.0)])
def test_without_regularization_training_examples_are_met(solver: Any, make: Any) -> None:
    rows = features(2, TRAIN, 3, size=40)
    targets = coded(labels(2), 2)
    train = make(rows, rows)
    close(solver.fit(train, targets).predict(train), targets)


def test_relative_regularization_is_in_units_of_the_largest_singular_value() -> None:
    rows, columns, targets = case(3)
    for train, test in ((gram(rows, rows), gram(rows, columns)), (asymmetric(rows, rows), asymmetric(rows, columns))):
        size = np.linalg.svd(train.flat().numpy())[1][0]
        relative = Ridge(regularization=0.1).fit(train, targets)
        absolute = Ridge(regularization=0.1 * size, absolute=True).fit(train, targets)
        close(relative.predict(test), absolute.predict(test))
        assert relative.facts["added"] == pytest.approx(0.1 * size)
        assert absolute.facts["added"] == pytest.approx(0.1 * size)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("make", [gram, asymmetric])
def test_ridge_chooses_what_leaving_out_examples_one_by_one_would_choose(make: Any, outputs: int) -> None:
    rows, columns, targets = case(outputs)
    candidates = (0.01, 0.3, 3.0, 40.0)
    errors = []
    for amount in candidates:
        error = 0.0
        for left in range(TRAIN):
            rest = [number for number in range(TRAIN) if number != left]
            part = Ridge(regularization=amount, absolute=True).fit(make(rows[rest], rows[rest]), targets[rest])
            error += float((part.predict(make(rows[rest], rows[[left]])) - targets[[left]]).square().sum())
        errors.append(error / (TRAIN * outputs))
    fitted = Ridge(candidates=candidates, absolute=True).fit(make(rows, rows), targets)
    best = min(range(len(candidates)), key=errors.__getitem__)
    assert fitted.facts["regularization"] == candidates[best]
    assert fitted.facts["left_out_error"] == pytest.approx(errors[best], rel=1e-9)
    fixed = Ridge(regularization=candidates[best], absolute=True).fit(make(rows, rows), targets)
    close(fitted.predict(make(rows, columns)), fixed.predict(make(rows, columns)))


@pytest.mark.parametrize("mix", [1.0, 0.0, 0.3])
def test_the_two_sided_system_is_that_of_the_papers(mix: float) -> None:
    rows, columns, targets = case(1)
    train, test = asymmetric(rows, rows), asymmetric(rows, columns)
    kernel, y, gamma = train.flat().numpy(), targets[:, 0].numpy(), 0.7
    system = np.zeros((2 * TRAIN, 2 * TRAIN))
    for i in range(TRAIN):
        system[i, i] = system[TRAIN + i, TRAIN + i] = 1 / gamma
        for j in range(TRAIN):
            system[i, TRAIN + j] = system[TRAIN + j, i] = y[i] * kernel[i, j] * y[j]
    solution = np.linalg.solve(system, np.ones(2 * TRAIN))
    alpha, beta = solution[:TRAIN], solution[TRAIN:]
    assert test.flipped is not None
    expected = mix * test.flat().numpy().T @ (alpha * y)
    expected += (1 - mix) * test.flipped.reshape(TRAIN, TEST).numpy().T @ (beta * y)
    close(Asymmetric(gamma=gamma, mix=mix).fit(train, targets).predict(test), expected)


def test_the_two_sided_system_meets_other_targets_as_gamma_grows() -> None:
    rows = features(3, TRAIN, 4, size=60)
    train, targets = asymmetric(rows, rows), features(3, TRAIN, 5, size=1)[..., 0]
    for mix in (0.0, 1.0):
        found = Asymmetric(gamma=1e9, mix=mix).fit(train, targets)
        close(
            found.predict(train if mix else Gram(train.values, None, train.values.permute(2, 3, 0, 1))), targets, 1e-5
        )


def test_the_two_sided_system_of_a_symmetric_kernel_is_ridge_regression() -> None:
    rows, columns, targets = case(3)
    ridge = Ridge(regularization=1 / 0.7, absolute=True).fit(gram(rows, rows), targets)
    for mix in (0.0, 0.4, 1.0):
        found = Asymmetric(gamma=0.7, mix=mix).fit(gram(rows, rows), targets)
        close(found.predict(gram(rows, columns)), ridge.predict(gram(rows, columns)))


@pytest.mark.parametrize("outputs", [1, 3])
def test_svr_is_that_of_scikit_learn_on_features(outputs: int) -> None:
    rows, columns, targets = case(outputs)
    expected = svm.SVR(kernel="linear", C=0.7, epsilon=0.05, tol=1e-8).fit(flat(rows), targets.reshape(-1).numpy())
    fitted = SVR(c=0.7, margin=0.05).fit(gram(rows, rows), targets)
    close(fitted.predict(gram(rows, columns)), expected.predict(flat(columns)), 1e-4)
    assert fitted.facts == {"converged": True, "support_vectors": len(expected.support_)}


def test_svc_is_that_of_scikit_learn_on_features() -> None:
    rows, columns, targets = case(1)
    expected = svm.SVC(kernel="linear", C=0.7, tol=1e-8).fit(flat(rows), labels(2).numpy())
    found = SVC(c=0.7).fit(gram(rows, rows), targets).predict(gram(rows, columns))
    close(found, expected.decision_function(flat(columns)), 1e-4)
    assert ((found[:, 0] > 0).numpy() == expected.predict(flat(columns))).all()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("c", [None, 0.2])
def test_logistic_regression_is_that_of_scikit_learn_on_rows_of_the_kernel(outputs: int, c: float | None) -> None:
    rows, columns, targets = case(outputs)
    classes = (targets.reshape(-1) > 0).int().numpy()
    fewest = int(np.bincount(classes).min())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if c is None:
            expected: Any = LogisticRegressionCV(cv=min(5, fewest), max_iter=10_000, random_state=0)
        else:
            expected = LogisticRegression(C=c, max_iter=10_000, random_state=0)
        expected = expected.fit(gram(rows, rows).flat().numpy(), classes)
    fitted = Logistic(c=c).fit(gram(rows, rows), targets)
    log_odds = expected.predict_log_proba(gram(rows, columns).flat().T.numpy())
    close(fitted.predict(gram(rows, columns)), log_odds[:, 1] - log_odds[:, 0])
    assert fitted.facts["converged"]
    assert fitted.facts["c"] == pytest.approx(float(expected.C_[0]) if c is None else c)


def test_a_logistic_regression_that_does_not_converge_says_so() -> None:
    rows, _, targets = case(1)
    assert not Logistic(c=1e4, max_iter=1).fit(gram(rows, rows), targets).facts["converged"]


@pytest.mark.parametrize("name", SOLVERS.names())
def test_the_order_of_training_examples_and_their_block_do_not_matter(name: str) -> None:
    outputs = 1
    rows, columns, targets = case(outputs)
    solver = SOLVERS.get(name)(**({"c": 0.5} if name == "logistic" else {}))
    order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(3))
    found = solver.fit(at_rest(rows, rows), targets).predict(at_rest(rows, columns))
    other = solver.fit(at_rest(rows[order], rows[order]), targets[order])
    tolerance = 1e-4 if name in ("svc", "svr", "logistic") else 1e-7
    close(other.predict(at_rest(rows[order], columns)), found, tolerance)
    parts = [other.predict(at_rest(rows[order], part)) for part in columns.split(2)]
    close(torch.cat(parts), other.predict(at_rest(rows[order], columns)))


@pytest.mark.parametrize("name", SOLVERS.names())
def test_exchanging_two_classes_exchanges_their_scores(name: str) -> None:
    rows, columns, targets = case(1)
    solver = SOLVERS.get(name)(**({"c": 0.5} if name == "logistic" else {}))
    one = solver.fit(at_rest(rows, rows), targets).predict(at_rest(rows, columns))
    other = solver.fit(at_rest(rows, rows), -targets).predict(at_rest(rows, columns))
    close(other, -one, 1e-3)


@pytest.mark.parametrize("name", ["asymmetric", "least-squares", "ridge", "svr"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_an_offset_is_taken_from_targets_and_added_to_predictions(name: str, outputs: int) -> None:
    rows, columns, targets = case(outputs)
    start, later = features(outputs, TRAIN, 7, 1)[..., 0], features(outputs, TEST, 8, 1)[..., 0]
    plain, offset = SOLVERS.get(name)(), SOLVERS.get(name)(f0_scaling=2.0)
    expected = plain.fit(gram(rows, rows), targets - start / 2).predict(gram(rows, columns)) + later / 2
    found = offset.fit(gram(rows, rows, start), targets).predict(gram(rows, columns, later))
    close(found, expected)
    far = SOLVERS.get(name)(f0_scaling=1e15).fit(gram(rows, rows, start), targets)
    without = plain.fit(gram(rows, rows), targets).predict(gram(rows, columns))
    close(far.predict(gram(rows, columns, later)), without, 1e-4)


def test_two_classes_are_coded_as_one_number_and_more_as_one_of_many() -> None:
    assert coded(torch.tensor([0, 1, 1]), 1).tolist() == [[-1.0], [1.0], [1.0]]
    assert coded(torch.tensor([0, 2]), 3).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert scores_of(torch.tensor([[3.0], [-1.0]])).tolist() == [[-1.5, 1.5], [0.5, -0.5]]
    assert scores_of(torch.eye(3)).tolist() == torch.eye(3).tolist()
    probability = scores_of(torch.tensor([[0.4]])).softmax(1)[0, 1]
    assert float(probability) == pytest.approx(1 / (1 + np.exp(-0.4)))
