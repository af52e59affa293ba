"""The factors of directions of low rank in one evaluation, against the directions themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.zeroth import LOZO
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.dense import Dense
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.directions.subspace import Subspace
from shoestring.zeroth.engines.sides import Sides
from shoestring.zeroth.points import Points, both_ends
from shoestring.zeroth.tensors import Trained, trained_tensors

FAMILIES: dict[str, Directions] = {
    "rank 1": LowRank(1),
    "rank 3": LowRank(3),
    "a basis": LowRank(2, basis=4),
    "a basis, scaled": LowRank(2, basis=4).scaled(0.5),
    "many columns": LowRank(20),
    "tensors scaled": Scaled(LowRank(2, basis=4), {"one": 2.0, "two": 0.5}),
    "a subspace": Subspace(4, basis=1),
}
ROWS: dict[str, tuple[tuple[float, ...], ...]] = {
    "both ends": ((0.1,), (-0.1,)),
    "one point": ((0.3,),),
    "three directions": ((0.1, 0.0, 0.2), (0.0, -0.1, 0.0)),
}


def tensors(dtype: torch.dtype = torch.float64) -> list[Trained]:
    shapes = {"one": (9, 14), "vector": (9,), "two": (12, 9)}
    named = [(name, nn.Parameter(torch.zeros(shape, dtype=dtype))) for name, shape in shapes.items()]
    names, params = zip(*named, strict=True)
    return trained_tensors([{"params": list(params), "param_names": list(names)}])


def moved(points: Points, tensor: Trained, row: Sequence[float]) -> Tensor:
    """Return the sum of coefficient * z, z being written out."""
    total, z = torch.zeros(tensor.param.numel(), dtype=torch.float64), torch.empty(tensor.param.numel())
    for seed, number in zip(points.seeds, row, strict=True):
        points.directions.fill(z, tensor, seed)
        total += number * z.double()
    return total.view(tensor.param.shape)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_the_factors_are_what_matrices_differ_by(family: str, rows: str, turned: bool) -> None:
    known = tensors()
    points = Points(FAMILIES[family], tuple(range(7, 7 + len(ROWS[rows][0]))), ROWS[rows])
    sides = Sides(points, known)
    for tensor in (known[0], known[2]):
        side = sides.of(tensor, turned=turned)
        assert side is not None
        for left, row in zip(side.lefts, points.coefficients, strict=True):
            found = left.T @ side.rights
            torch.testing.assert_close(found.T if turned else found, moved(points, tensor, row), rtol=1e-5, atol=1e-6)


def test_factors_are_there_for_low_rank_and_in_the_dtype_of_the_matrix() -> None:
    known = tensors(torch.bfloat16)
    side = Sides(both_ends(LowRank(2), 3, 1e-3), known).of(known[0])
    assert side is not None
    assert (side.lefts.dtype, side.rights.dtype) == (torch.float32, torch.bfloat16)
    assert Sides(both_ends(Dense("gaussian"), 3, 1e-3), known).of(known[0]) is None


def test_directions_and_updates_in_one_basis_share_columns() -> None:
    layer = nn.Linear(8, 6)
    optimizer = LOZO(layer.named_parameters(), lr=0.1, engine="virtual", rank=2, period=3)
    columns = []
    for step in range(5):
        engine: Any = optimizer.engine
        points = engine.placed(both_ends(optimizer.family(), step, 1e-3))
        side = Sides(points, engine.tensors).of(engine.tensors[0])
        assert side is not None
        columns.append(len(side.rights))
        optimizer.step(lambda: layer(torch.ones(2, 8)).square().mean())
    assert columns == [2, 2, 2, 4, 4]


@pytest.mark.parametrize("points", ["paired", {"kind": "paired", "lanes": 1}], ids=str)
def test_a_layer_may_be_given_no_rows(points: Any) -> None:
    layer = nn.Linear(8, 6)
    optimizer = LOZO(layer.named_parameters(), lr=0.1, engine=points)
    optimizer.step(lambda: layer(torch.ones(2, 8)).square().mean() + layer(torch.ones(0, 8)).sum())


def test_a_repeated_layer_may_be_given_no_rows() -> None:
    layer, x = nn.Linear(8, 6), torch.ones(4, 8)
    optimizer = LOZO(layer.named_parameters(), lr=0.1)

    def losses(batch: dict[str, Tensor]) -> Tensor:
        return layer(batch["x"]).square().mean(1) + layer(batch["x"][:, None][:, :0]).sum((1, 2))

    optimizer.step(PerExample(losses, [{"x": x}]))
    engine: Any = optimizer.engine
    assert engine.repeats


def test_layers_inside_and_outside_autocast_meet_the_same_directions() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))
    x = torch.linspace(-1, 1, 24).view(3, 8)

    def losses(*_: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            inner = model[0](x)
        return model[1](inner.float()).square().mean()

    found = []
    for engine in ("paired", "replay"):
        optimizer = LOZO(model.named_parameters(), lr=0.0, eps=0.5, engine=engine, rank=2, seed=3)
        optimizer.step(losses)
        found.append(optimizer.last_projected_grads[0])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
