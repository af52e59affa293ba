"""Random projections: right in expectation, with the error that is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kernels.subjects import Subject, subject
from kernels.vectors import of_points, points
from reference import kernel_twin
from shoestring.errors import KernelError
from shoestring.kernels import KernelSettings, Projection, Request, compute_kernels

DRAWS = 60


class Small(nn.Module):
    """An embedding's worth of everything: matrices, vectors, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(9, 12), nn.LayerNorm(12), nn.Linear(12, 2)
        stream = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(torch.randn(param.shape, generator=stream))
        self.double()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(values)).tanh())


def one_of(name: str) -> Subject:
    if name == "small":
        return Subject(of_points(Small()), points(4, 3, 9))
    return subject(name, count=4)


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
@pytest.mark.parametrize("name", ["small", "roberta"])
def test_the_mean_of_projected_kernels_is_the_kernel_and_their_error_is_within_the_bound(
    name: str, distribution: Any
) -> None:
    one = one_of(name)
    names = [n for n in one.names() if name == "small" or n.startswith(("roberta.embeddings", "lm_head"))]
    side = 4
    request = Request(one.outputs, one.items[:2], one.items[2:], parameters=names)
    exact = compute_kernels(request)["sgd"].values
    drawn = torch.stack(
        [
            compute_kernels(
                Request(
                    one.outputs, one.items[:2], one.items[2:], parameters=names,
                    projection=Projection(seed, side, distribution),
                )
            )["sgd"].values
            for seed in range(DRAWS if name == "small" else DRAWS // 3)
        ]
    )  # fmt: skip
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - exact).abs() <= 4 * error + 1e-12).all()
    _, left = kernel_twin.jacobian(one.outputs, one.items[:2], names)
    _, right = kernel_twin.jacobian(one.outputs, one.items[2:], names)
    factor = (1 + 2 / side) ** 2 - 1
    bound = torch.zeros_like(exact)
    for n, row in enumerate(left):
        for c, grads in enumerate(row):
            for m, column in enumerate(right):
                for d, others in enumerate(column):
                    bound[n, c, m, d] = sum(factor * grads[p].square().sum() * others[p].square().sum() for p in grads)
    # The spread of a spread of so many draws is about 1 / sqrt(2 draws) of it.
    assert (drawn.std(0) <= (1 + 4 / (2 * len(drawn)) ** 0.5) * bound.sqrt()).all()
    assert drawn.std(0).max() > 0
    norms = kernel_twin.norms("sgd", left, 0)[:, :, None, None] * kernel_twin.norms("sgd", right, 1)
    assert (bound.sqrt() <= Projection(0, side).relative_error * norms + 1e-12).all()


@pytest.mark.parametrize("name", ["small", "roberta", "llama-tied"])
def test_a_projection_that_keeps_all_changes_nothing(name: str) -> None:
    one = one_of(name)
    exact = compute_kernels(Request(one.outputs, one.items, None))["sgd"]
    kept = compute_kernels(Request(one.outputs, one.items, None, projection=Projection(1, 400)))["sgd"]
    torch.testing.assert_close(kept.values, exact.values, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(kept.row_norms, exact.row_norms, rtol=1e-6, atol=1e-9)


def test_a_projection_depends_on_its_seed_and_on_nothing_else() -> None:
    one = subject("roberta", count=4)

    def kernel(seed: int, *, columns: Any = None, **changes: Any) -> torch.Tensor:
        request = Request(one.outputs, one.items, columns, projection=Projection(seed, 4))
        return compute_kernels(request, KernelSettings(**changes))["sgd"].values

    torch.testing.assert_close(kernel(1), kernel(1, batch_size=1, route="autograd"), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(kernel(1)[:, :, :2], kernel(1, columns=one.items[:2]), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(kernel(1), kernel(2), rtol=1e-2)


def test_numbers_are_the_same_from_wherever_they_are_begun() -> None:
    for distribution in ("rademacher", "normal"):
        projection = Projection(3, 8, distribution)
        whole = projection.numbers("w", "rows", 10_000, 0, 10_000)
        assert whole.shape == (8, 10_000)
        assert torch.equal(projection.numbers("w", "rows", 10_000, 4_090, 4_100), whole[:, 4_090:4_100])
        assert not torch.equal(projection.numbers("v", "rows", 10_000, 0, 9), whole[:, :9])
    assert set((whole := Projection(3, 4).numbers("w", "rows", 99, 0, 99)).unique().tolist()) == {-0.5, 0.5}
    assert whole.mean().abs() < 4 * 0.5 / 99**0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formulas": ("sgd", "signgd")}, "keeps inner products of gradients, but signgd is one of their signs"),
        ({"masks": {"lm_head.bias": torch.ones(400, dtype=torch.bool)}}, "masks and a random projection do not go"),
    ],
)
def test_what_does_not_go_with_a_projection_is_refused(changes: Any, message: str) -> None:
    one = subject("roberta")
    with pytest.raises(KernelError, match=message):
        compute_kernels(Request(one.outputs, one.items, projection=Projection(1), **changes))
    with pytest.raises(KernelError, match="side=0: a projection keeps at least one number"):
        Projection(1, 0)
