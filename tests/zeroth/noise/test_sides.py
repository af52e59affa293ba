"""What directions of low rank add at the side of a product."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoestring.zeroth.noise.choose import using
from shoestring.zeroth.noise.sides import Side

BACKENDS = ("torch", "numba")
# Of sums of some hundred numbers: a unit in the last place of the largest of them.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


def made(points: int, rows: int, width: int, height: int, rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Side]:
    """Return what the product gave [P, N, m], x [P N, n], and a side."""
    random = torch.Generator().manual_seed(points + rows + rank)
    wide = torch.promote_types(dtype, torch.float32)
    lefts = torch.randn(points, rank, height, generator=random, dtype=wide)
    rights = torch.randn(rank, width, generator=random).to(dtype)
    x = torch.randn(points * rows, width, generator=random).to(dtype) / width**0.5
    return torch.randn(points, rows, height, generator=random).to(dtype), x, Side(lefts, rights)


def twin(out: Tensor, x: Tensor, biases: list[Tensor] | None, side: Side) -> Tensor:
    """Return the sums in float64, element by element."""
    points, rows, _ = out.shape
    found = out.double().clone()
    for point in range(points):
        for row in range(rows):
            inner = [torch.dot(x[point * rows + row].double(), right.double()) for right in side.rights]
            for number, left in zip(inner, side.lefts[point].double(), strict=True):
                found[point, row] += number * left
            if biases is not None:
                found[point, row] += biases[point].double()
    return found


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("points", "rank"), [(2, 1), (1, 1), (2, 2), (3, 3), (2, 8), (2, 9)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_are_those_made_one_by_one(backend: str, points: int, rank: int, dtype: torch.dtype, biased: bool) -> None:
    out, x, side = made(points, 5, 37, 29, rank, dtype)
    biases = [torch.linspace(-1, point, 29).to(dtype) for point in range(points)] if biased else None
    wanted = twin(out, x, biases, side)
    with using(backend) as noise:
        noise.add_side(out, x, biases or [None] * points, side)
    scale = wanted.abs().amax()
    assert ((out.double() - wanted).abs() <= TOLERANCE[dtype] * scale).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    out, x, side = made(2, 200, 96, 128, 2, dtype)
    ends = []
    with using("numba") as noise:
        for count in (1, 3):
            before, found = torch.get_num_threads(), out.clone()
            torch.set_num_threads(count)
            noise.add_side(found, x, [None, None], side)
            torch.set_num_threads(before)
            ends.append(found)
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], out)


@pytest.mark.parametrize("what", ["x", "lefts"])
def test_numbers_that_lie_apart_are_summed_too(what: str) -> None:
    out, x, side = made(2, 6, 16, 12, 1, torch.float32)
    biases = [torch.ones(12), torch.ones(12)]
    wanted = twin(out, x, biases, side)
    if what == "x":
        x = torch.stack([x, x], 2)[:, :, 0]
    elif what == "lefts":
        side = Side(torch.stack([side.lefts, side.lefts], 3)[..., 0], side.rights)
    with using("numba") as noise:
        noise.add_side(out, x, biases, side)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_are_no_work(backend: str) -> None:
    _, _, side = made(2, 1, 16, 12, 1, torch.float32)
    out = torch.empty(2, 0, 12)
    with using(backend) as noise:
        noise.add_side(out, torch.empty(0, 16), [torch.ones(12), torch.ones(12)], side)
    assert out.shape == (2, 0, 12)


def test_lefts_of_points_may_lie_far_from_each_other() -> None:
    out, x, side = made(2, 6, 16, 12, 2, torch.float32)
    wanted = twin(out, x, None, side)
    room = torch.full((2, 500), float("nan"))
    room[:, 100:124] = side.lefts.view(2, 24)
    with using("numba") as noise:
        noise.add_side(out, x, [None, None], Side(room[:, 100:124].view(2, 2, 12), side.rights))
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)
