"""Descent in the space of outputs is that of the linearised model's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kernels.solvers.explicit import TEST, TRAIN, asymmetric, features, gram, labels
from kernels.subjects import subject
from reference import kernel_twin
from shoestring.errors import SolverError
from shoestring.kernels import Gram, Request, compute_kernels, gram_of
from shoestring.kernels.solvers.catalog.descent import Descent
from shoestring.kernels.solvers.targets import coded

CLASSES = {1: 2, 3: 3}


def trained(rows: Tensor, start: Tensor, classes: Tensor, lr: float, steps: int) -> Tensor:
    """Return what weights [P] of f = start + rows @ weights come to, by autograd and torch's SGD."""
    weights = torch.zeros(rows.shape[-1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=lr)
    for _ in range(steps):
        values = start + rows @ weights
        scores = torch.cat((torch.zeros_like(values), values), 1) if values.shape[1] == 1 else values
        optimizer.zero_grad()
        functional.cross_entropy(scores, classes).backward()
        optimizer.step()
    return weights.detach()


@pytest.mark.parametrize("outputs", [1, 3])
def test_descent_is_that_of_the_weights_of_a_linear_model(outputs: int) -> None:
    rows, columns = features(outputs, TRAIN, 0), features(outputs, TEST, 1)
    start, later = features(outputs, TRAIN, 7, 1)[..., 0], features(outputs, TEST, 8, 1)[..., 0]
    classes = labels(CLASSES[outputs])
    fitted = Descent(lr=0.3, steps=20).fit(gram(rows, rows, start), coded(classes, outputs))
    weights = trained(rows, start, classes, 0.3, 20)
    torch.testing.assert_close(fitted.predict(gram(rows, columns, later)), later + columns @ weights)
    assert fitted.facts["lr"] == 0.3
    assert fitted.facts["last_loss"] < fitted.facts["first_loss"]


@pytest.mark.parametrize("name", ["roberta", "llama"])
def test_descent_of_a_language_model_is_that_of_its_linearisation(name: str) -> None:
    one = subject(name, difference=True, count=5)
    names = one.names("no-embeddings")
    items, test = one.items[:3], one.items[3:]
    classes = torch.tensor([item.label for item in items])
    requests = [Request(one.outputs, items, others, ("sgd",), names) for others in (None, test)]
    own, others = (gram_of(compute_kernels(request), "sgd") for request in requests)
    fitted = Descent(lr=0.01, steps=7).fit(own, coded(classes, 1))
    (start, rows), (later, columns) = (kernel_twin.jacobian(one.outputs, part, names) for part in (items, test))
    flat = [torch.stack([torch.cat(list(row[0].values())) for row in found])[:, None] for found in (rows, columns)]
    weights = trained(flat[0], start, classes, 0.01, 7)
    torch.testing.assert_close(fitted.predict(others), later + flat[1] @ weights, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
def test_without_a_learning_rate_the_loss_falls_at_every_step(outputs: int) -> None:
    rows = features(outputs, TRAIN, 0, size=40)
    start, targets = features(outputs, TRAIN, 7, 1)[..., 0], coded(labels(CLASSES[outputs]), outputs)
    losses = [Descent(steps=steps).fit(gram(rows, rows, start), targets).facts["last_loss"] for steps in range(1, 9)]
    assert losses == sorted(losses, reverse=True)
    long = Descent(steps=20_000).fit(gram(rows, rows, start), targets)
    assert long.facts["last_loss"] < 0.01
    assert long.facts["lr"] == pytest.approx(TRAIN / float(torch.linalg.matrix_norm(gram(rows, rows).flat(), 2)))


def test_descent_takes_kernels_of_signs_on_one_side() -> None:
    rows, columns = features(1, TRAIN, 0), features(1, TEST, 1)
    one = asymmetric(rows, rows)
    train = Gram(one.values, torch.zeros(TRAIN, 1, dtype=torch.float64), one.flipped)
    fitted: Any = Descent(lr=0.1, steps=1).fit(train, coded(labels(2), 1))
    test = Gram(asymmetric(rows, columns).values, torch.zeros(TEST, 1, dtype=torch.float64))
    step = 0.1 * coded(labels(2), 1)[:, 0] / 2 / TRAIN  # of a model that knows nothing yet
    torch.testing.assert_close(fitted.predict(test)[:, 0], columns[:, 0] @ (rows[:, 0].sign().T @ step))


def test_descent_with_too_large_a_step_is_named() -> None:
    rows = features(1, TRAIN, 0)
    start = torch.zeros(TRAIN, 1, dtype=torch.float64)
    with pytest.raises(SolverError, match=r"descent diverges: the loss was 0\.693 and is .*smaller method\.solver\.lr"):
        Descent(lr=1e4, steps=5).fit(gram(rows, rows, start), coded(labels(2), 1))


def test_descent_needs_the_outputs_of_the_model() -> None:
    rows = features(1, TRAIN, 0)
    with pytest.raises(SolverError, match="the model's own outputs are not given with this kernel"):
        Descent().fit(gram(rows, rows), coded(labels(2), 1))
