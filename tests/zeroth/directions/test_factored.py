from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth.directions.base import DIRECTIONS, Directions, Move, Target
from shoestring.zeroth.directions.factored import Factored
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.directions.subspace import Subspace, orthonormal
from shoestring.zeroth.tensors import Trained

FAMILIES = {
    "low rank": lambda: LowRank(2, basis=5),
    "low rank, free": lambda: LowRank(3),
    "low rank, scaled": lambda: LowRank(2, basis=5).scaled(0.5),
    "subspace": lambda: Subspace(4, basis=5),
    "subspace, scaled": lambda: Subspace(2, basis=5).scaled(0.5),
}
SHAPES = {"matrix": (300, 700), "wide": (2, 70_000), "tall": (5000, 3), "cube": (4, 3, 5), "vector": (11,), "one": ()}


def trained(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, key: int = 3) -> Trained:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return Trained(key, "weight", nn.Parameter(values), 0)


def direction(family: Directions, tensor: Trained, seed: int) -> Tensor:
    out = torch.empty(tensor.param.numel())
    family.fill(out, tensor, seed)
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_direction_is_the_product_of_its_factors(family: str, shape: str) -> None:
    made, tensor = FAMILIES[family](), trained(SHAPES[shape])
    factors = made.factors(tensor, 7)
    if tensor.param.ndim < 2:
        assert factors is None
        wanted = direction(made.vectors, tensor, 7)
    else:
        assert factors is not None
        left, right = factors
        assert left.shape[1] == right.shape[1] <= made.rank
        assert (len(left), len(left) * len(right)) == (tensor.param.shape[0], tensor.param.numel())
        wanted = (left.double() @ right.double().T).view(-1).float()
    torch.testing.assert_close(direction(made, tensor, 7), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_any_slice_is_bit_for_bit_that_of_the_whole(family: str, shape: str) -> None:
    made, tensor = FAMILIES[family](), trained(SHAPES[shape])
    whole, size = direction(made, tensor, 7), tensor.param.numel()
    cuts = sorted({0, size, *(size * part // 7 for part in (1, 2, 5)), min(size, 1), max(0, size - 1)})
    for start, stop in itertools.pairwise(cuts):
        part = torch.empty(stop - start)
        made.fill(part, tensor, 7, start)
        assert torch.equal(part, whole[start:stop])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_add_and_points_are_what_the_general_way_makes_of_fill(family: str, dtype: torch.dtype) -> None:
    made = FAMILIES[family]()
    for shape in SHAPES.values():
        tensor = trained(shape, dtype)
        size = tensor.param.numel()
        start, stop = size // 3, size - size // 5
        ours, twin = tensor.flat.clone()[start:stop], tensor.flat.clone()[start:stop]
        terms = [(7, 0.3), (8, -1.7)]
        made.add(ours, tensor, terms, start, 0.9, 4)
        Directions.add(made, twin, tensor, terms, start, 0.9, 4)
        assert torch.equal(ours, twin)
        ours, twin = (torch.empty(3, stop - start, dtype=dtype) for _ in range(2))
        asked = (tensor.flat[start:stop], tensor, (7, 8), ((0.0, 0.0), (0.1, 0.0), (-0.1, 2.0)), start)
        made.points(ours, *asked)
        Directions.points(made, twin, *asked)
        assert torch.equal(ours, twin)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_tensors_at_once_are_as_one_by_one(family: str) -> None:
    made = FAMILIES[family]()
    tensors = [trained(shape, torch.bfloat16, key) for key, shape in enumerate(SHAPES.values())]
    ours, twins = ([tensor.flat.clone() for tensor in tensors] for _ in range(2))
    made.add_all([Move(one, tensor, [(7, 0.3)], 0, 0.9) for one, tensor in zip(ours, tensors, strict=True)], 4)
    rooms = [torch.zeros(2, 2, tensor.param.numel(), dtype=torch.bfloat16) for tensor in tensors]
    table = ((0.1,), (-0.1,))
    targets = [Target(room[0], one, tensor) for room, one, tensor in zip(rooms, ours, tensors, strict=True)]
    made.points_all(targets, (7,), table)
    for room, one, twin, tensor in zip(rooms, ours, twins, tensors, strict=True):
        made.add(twin, tensor, [(7, 0.3)], 0, 0.9, 4)
        assert torch.equal(one, twin)
        made.points(room[1], one, tensor, (7,), table)
        assert torch.equal(room[0], room[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_the_general_way_up_to_the_last_bits(family: str) -> None:
    made, tensor = FAMILIES[family](), trained((50, 6), torch.float64)
    index = torch.tensor([3, 0, 49, 3])
    ours, twin = (torch.empty(2, 4, 6, dtype=torch.float64) for _ in range(2))
    asked = (tensor.param.data, index, tensor, (7, 8), ((0.5, 0.0), (-0.5, 1.0)))
    made.rows(ours, *asked)
    Directions.rows(made, twin, *asked)
    torch.testing.assert_close(ours, twin, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_do_not_fall_to_half_precision_under_autocast(family: str) -> None:
    made, again, tensor = FAMILIES[family](), FAMILIES[family](), trained((30, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = direction(made, tensor, 7)
    assert torch.equal(found, direction(again, tensor, 7))


def means(make: str, count: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the mean over directions (and bases) of z z', and how far it may be from what it estimates."""
    found = []
    tensor = trained(shape)
    for number in range(count):
        family = {"free": lambda n: DIRECTIONS.get("low-rank")(), "basis": lambda n: LowRank(2, n, scale=0.5**0.5),
                  "subspace": lambda n: Subspace(2, n)}[make](number)  # fmt: skip
        found.append(direction(family, tensor, 1000 + number).double())
    products = torch.stack([torch.outer(z, z) for z in found])
    return products.mean(0), 4 * products.std(0) / math.sqrt(count)


@pytest.mark.parametrize("make", ["free", "basis", "subspace"])
def test_over_bases_and_seeds_the_mean_of_z_z_is_the_identity(make: str) -> None:
    mean, error = means(make, 500, (3, 2))
    assert torch.all((mean - torch.eye(6, dtype=torch.float64)).abs() < error)


def test_directions_with_one_basis_lie_in_one_space_and_others_do_not() -> None:
    tensor = trained((8, 6))
    for one, other, rank in [(LowRank(2, 5), LowRank(2, 6), 2), (Subspace(2, 5), Subspace(2, 6), 2)]:
        same = torch.cat([direction(one, tensor, seed).view(8, 6) for seed in (1, 2, 3)])
        assert torch.linalg.matrix_rank(same, atol=1e-4) == rank
        both = torch.cat([same, direction(other, tensor, 1).view(8, 6)])
        assert torch.linalg.matrix_rank(both, atol=1e-4) == 2 * rank


def test_bases_are_orthonormal_and_uniform() -> None:
    tensor = trained((8, 6))
    firsts = []
    for seed in range(200):
        found = orthonormal(tensor, seed, 4, 2)
        torch.testing.assert_close(found.T @ found, torch.eye(2), rtol=0, atol=1e-6)
        firsts.append(found[0, 0])
    # Uniform on the sphere, a coordinate has mean 0 and variance 1 / 4; a bare QR gives negative first entries only.
    values = torch.stack(firsts)
    assert abs(float(values.mean())) < 4 * 0.5 / math.sqrt(200)
    assert abs(float(values.square().mean()) - 0.25) < 4 * float(values.square().std()) / math.sqrt(200)


def test_a_small_matrix_has_its_smaller_side_as_its_rank() -> None:
    family, tensor = Subspace(64, 1), trained((3, 5))
    left, right = family.factors(tensor, 2) or pytest.fail("no factors")
    assert (left.shape, right.shape) == ((3, 3), (5, 3))


def test_what_is_kept_are_the_factors_of_one_direction_a_matrix_and_none_of_it_travels() -> None:
    family = LowRank(2, basis=1)
    for key in (1, 2):
        direction(family, trained((30, 20), key=key), 7)
    assert sum(kept.numel() for _, kept in family._kept.values()) == 2 * (30 + 20) * 2
    free = LowRank(2)
    for key in (1, 2):
        direction(free, trained((30, 20), key=key), 7)
    assert sum(kept.numel() for _, kept in free._kept.values()) == 2 * (30 + 20) * 2
    for copied in (copy.deepcopy(family), pickle.loads(pickle.dumps(family))):
        assert copied._kept == {}
        assert torch.equal(direction(copied, trained((30, 20)), 7), direction(family, trained((30, 20)), 7))


@pytest.mark.parametrize("rank", [0, -1, 1.5, math.nan])
@pytest.mark.parametrize("make", [LowRank, Subspace])
def test_a_rank_that_cannot_be_is_refused(make: Callable[..., Factored], rank: float) -> None:
    with pytest.raises(OptimizerError, match=r"directions: rank=.*; it must be a whole number and at least 1"):
        make(rank, 0)
