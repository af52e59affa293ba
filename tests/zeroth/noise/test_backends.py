"""Every backend gives the bits of the plain one, and any part is the part of the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from shoestring.zeroth.noise import using
from shoestring.zeroth.noise.base import Addition, Distribution, Factors, Products, Source, Spread, Term
from shoestring.zeroth.noise.plain import PlainNoise

PLAIN = PlainNoise()
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KEYS = st.integers(0, 2**63 - 1)
DISTRIBUTIONS = st.sampled_from(["gaussian", "rademacher"])
SIZES = st.integers(0, 300) | st.integers(1900, 2200) | st.integers(4000, 6200)
STARTS = st.integers(0, 5000) | st.integers(2**34 - 2500, 2**34) | st.integers(0, 2**50)
COEFFICIENTS = st.floats(-2, 2) | st.sampled_from([0.0, 1e-6, -1e-3, 1e-300, 1e30, 1e300, float("inf")])
SCALES = st.sampled_from([1e-40, 1e-7, 1e-4, 1.0, 300.0, 1e5, 1e38])


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Bits of the numbers, those of every NaN the same."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(kinds[tensor.element_size()]).masked_fill(tensor.isnan(), -1)


def weights(size: int, scale: float, dtype: torch.dtype) -> torch.Tensor:
    made = torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64) * scale
    return made.to(dtype)


@given(DISTRIBUTIONS, KEYS, KEYS, SIZES, STARTS)
def test_numba_fills_with_the_bits_of_the_plain_backend(
    distribution: Distribution, seed: int, key: int, size: int, start: int
) -> None:
    source, right, made = Source(key, distribution), torch.empty(size), torch.empty(size)
    PLAIN.fill(right, source, seed, start)
    with using("numba") as numba:
        numba.fill(made, source, seed, start)
    assert torch.equal(bits(made), bits(right))


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.tuples(DISTRIBUTIONS, KEYS, SIZES, STARTS),
    st.lists(st.tuples(KEYS, COEFFICIENTS), max_size=3),
    st.sampled_from([1.0, 0.999, 0.0, -3.0]),
    st.none() | KEYS,
    SCALES,
)
@example(("gaussian", 7, 5000, 3), [(1, 1e-3), (2, 0.5)], 0.999, 11, 1.0)
def test_numba_adds_the_bits_of_the_plain_backend(
    dtype: torch.dtype,
    where: tuple[Distribution, int, int, int],
    terms: list[Term],
    keep: float,
    rounding: int | None,
    scale: float,
) -> None:
    distribution, key, size, start = where
    right = weights(size, scale, dtype)
    made = right.clone()
    PLAIN.add(right, Source(key, distribution), terms, start, keep, rounding)
    with using("numba") as numba:
        numba.add(made, Source(key, distribution), terms, start, keep, rounding)
    assert torch.equal(bits(made), bits(right))


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.tuples(DISTRIBUTIONS, KEYS, SIZES, STARTS), st.data())
def test_numba_makes_the_points_of_the_plain_backend(
    dtype: torch.dtype, where: tuple[Distribution, int, int, int], data: st.DataObject
) -> None:
    distribution, key, size, start = where
    seeds = data.draw(st.lists(KEYS, min_size=1, max_size=3))
    rows = st.lists(COEFFICIENTS, min_size=len(seeds), max_size=len(seeds))
    table = data.draw(st.lists(rows, min_size=1, max_size=4))
    weight = weights(size, data.draw(SCALES), dtype)
    # Outputs of a batch of tensors may lie apart.
    room = torch.zeros(2, len(table), size + data.draw(st.integers(0, 3)), dtype=dtype)
    right, made = room[0, :, :size], room[1, :, :size]
    PLAIN.points(right, weight, Source(key, distribution), seeds, table, start)
    with using("numba") as numba:
        numba.points(made, weight, Source(key, distribution), seeds, table, start)
    assert torch.equal(bits(room[1]), bits(room[0]))


@pytest.mark.parametrize("dtype", DTYPES)
@given(DISTRIBUTIONS, KEYS, st.integers(1, 200), st.lists(st.integers(0, 29), max_size=8))
def test_numba_makes_the_rows_of_the_plain_backend(
    dtype: torch.dtype, distribution: Distribution, key: int, width: int, index: list[int]
) -> None:
    weight = weights(30 * width, 1.0, dtype).view(30, width)
    rows = torch.tensor(index, dtype=torch.int64)
    room = torch.zeros(2, 3, len(index), width, dtype=dtype)
    table = [[0.1, 0.0], [-0.1, 2.0], [0.0, 0.0]]
    PLAIN.rows(room[0], weight, rows, Source(key, distribution), [5, 6], table)
    with using("numba") as numba:
        numba.rows(room[1], weight, rows, Source(key, distribution), [5, 6], table)
    assert torch.equal(bits(room[1]), bits(room[0]))


def test_rows_may_be_numbered_in_any_kind_of_integer_and_order_in_memory() -> None:
    weight, room = weights(30 * 50, 1.0, torch.float32).view(30, 50), torch.zeros(3, 1, 4, 50)
    rows = torch.tensor([[3, 9], [0, 9], [29, 9], [3, 9]])
    with using("numba") as noise:
        for made, index in zip(room, (rows[:, 0].contiguous(), rows[:, 0], rows[:, 0].int()), strict=True):
            noise.rows(made, weight, index, Source(3, "gaussian"), [5], [[0.1]])
    assert bool((room[0] != 0).all())
    assert torch.equal(room[1], room[0])
    assert torch.equal(room[2], room[0])


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(DISTRIBUTIONS, st.integers(0, 4000), st.integers(0, 3000), st.none() | KEYS)
def test_a_part_is_the_part_of_the_whole(
    backend: str, dtype: torch.dtype, distribution: Distribution, begin: int, size: int, rounding: int | None
) -> None:
    source, terms = Source(3, distribution), [(1, 0.5), (2, -0.25)]
    whole = weights(7000, 1.0, dtype)
    part, outs = whole[begin : begin + size].clone(), torch.empty(2, size, dtype=dtype)
    all_outs = torch.empty(2, 7000, dtype=dtype)
    with using(backend) as noise:
        noise.points(all_outs, whole, source, [8], [[1.0], [-1.0]], 100)
        noise.points(outs, part, source, [8], [[1.0], [-1.0]], 100 + begin)
        noise.add(whole, source, terms, 100, 0.5, rounding)
        noise.add(part, source, terms, 100 + begin, 0.5, rounding)
    assert torch.equal(part, whole[begin : begin + size])
    assert torch.equal(outs, all_outs[:, begin : begin + size])


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_made_in_order_and_rounded_once(backend: str, dtype: torch.dtype) -> None:
    size, source = 3000, Source(9, "gaussian")
    weight, zs = weights(size, 1.0, dtype), torch.empty(2, size)
    terms = [(4, 0.1), (5, -3e-3)]
    for z, (seed, _) in zip(zs, terms, strict=True):
        PLAIN.fill(z, source, seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    total = weight.to(wide) * torch.tensor(0.99, dtype=wide)
    for z, (_, coefficient) in zip(zs, terms, strict=True):
        total = total + z.to(wide) * torch.tensor(coefficient, dtype=wide)
    with using(backend) as noise:
        noise.add(weight, source, terms, keep=0.99)
    assert torch.equal(weight, total.to(dtype))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_direction_of_coefficient_zero_is_left_out(backend: str) -> None:
    weight, outs = torch.full((100,), -0.0), torch.empty(2, 100)
    with using(backend) as noise:
        noise.add(weight, Source(1, "gaussian"), [(1, 0.0), (2, 1e-300)])
        noise.points(outs, weight, Source(1, "gaussian"), [1], [[0.0], [1.0]])
    assert torch.equal(bits(weight), bits(torch.full((100,), -0.0)))
    assert torch.equal(bits(outs[0]), bits(weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numba_rounds_every_kind_of_number_to_the_nearest_as_torch_does(dtype: torch.dtype) -> None:
    half = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for factor in (1.0, 1 + 2**-9, 1 + 2**-12, 1 + 2**-8, 0.5, 3 * 2.0**-4, 2.0**-20, 1.3, 1e5):
        weight = half.clone()
        with using("numba") as noise:
            noise.add(weight, Source(0, "gaussian"), [], keep=factor)
        right = (half.float() * torch.tensor(factor, dtype=torch.float32)).to(dtype)
        assert torch.equal(bits(weight), bits(right))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_two_ends_of_a_direction_are_those_of_the_plain_backend(dtype: torch.dtype, distribution: Distribution) -> None:
    weight = weights(5000, 1.0, dtype)
    weight[:4] = torch.tensor([float("nan"), float("inf"), 1e-40, -0.0])
    room = torch.zeros(2, 2, 5003, dtype=dtype)
    for coefficient in (1e-3, -2.0, float("inf"), 1e-300):
        table = [[coefficient], [-coefficient]]
        PLAIN.points(room[0, :, :5000], weight, Source(3, distribution), [7], table, 33)
        with using("numba") as noise:
            noise.points(room[1, :, :5000], weight, Source(3, distribution), [7], table, 33)
        assert torch.equal(bits(room[1]), bits(room[0]))


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), DISTRIBUTIONS, SIZES, STARTS), max_size=6), st.none() | KEYS, st.data()
)
def test_many_stretches_at_once_are_as_one_by_one(
    cases: list[tuple[torch.dtype, Distribution, int, int]], rounding: int | None, data: st.DataObject
) -> None:
    several = st.lists(st.tuples(KEYS, st.floats(-2, 2)), max_size=2)
    additions, right = [], []
    for key, (dtype, distribution, size, start) in enumerate(cases):
        weight, source, terms = weights(size, 1.0, dtype), Source(key, distribution), data.draw(several)
        additions.append(Addition(weight, source, terms, start, 0.5))
        right.append(weight.clone())
        PLAIN.add(right[-1], source, terms, start, 0.5, rounding)
    with using("numba") as noise:
        noise.add_all(additions, rounding)
    assert all(torch.equal(bits(move.weight), bits(one)) for move, one in zip(additions, right, strict=True))

    table = [[0.1, 0.0], [-0.1, 2.0]]
    rooms = [torch.zeros(2, 2, len(one), dtype=one.dtype) for one in right]
    for room, (weight, source, _, start, _) in zip(rooms, additions, strict=True):
        PLAIN.points(room[0], weight, source, [5, 6], table, start)
    with using("numba") as noise:
        parts = zip(rooms, additions, strict=True)
        noise.points_all([Spread(room[1], add.weight, add.source, table, add.start) for room, add in parts], [5, 6])
    assert all(torch.equal(bits(room[0]), bits(room[1])) for room in rooms)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 4)),
    st.lists(COEFFICIENTS, max_size=3),
    st.none() | KEYS,
    st.data(),
)
def test_products_are_added_to_any_slice_with_the_bits_of_the_plain_backend(
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    coefficients: list[float],
    rounding: int | None,
    data: st.DataObject,
) -> None:
    height, width, rank = shape
    start = data.draw(st.integers(0, height * width))
    stop = data.draw(st.integers(start, height * width))
    drawn = torch.Generator().manual_seed(height)
    terms = [
        (Factors(torch.randn(height, rank, generator=drawn), torch.randn(width, rank, generator=drawn)), coefficient)
        for coefficient in coefficients
    ]
    right = weights(height * width, 1.0, dtype)
    made = right[start:stop].clone()
    PLAIN.add_products([Products(right, 8, terms, 0, 0.99)], rounding)
    with using("numba") as noise:
        noise.add_products([Products(made, 8, terms, start, 0.99)], rounding)
    assert torch.equal(bits(made), bits(right[start:stop]))


def test_a_product_is_the_matrix_product() -> None:
    left, right, weight = torch.randn(50, 3), torch.randn(70, 3), torch.zeros(3500)
    for backend in ("torch", "numba"):
        with using(backend) as noise:
            noise.add_products([Products(weight, 0, [(Factors(left, right), 2.0)], keep=0.0)])
        torch.testing.assert_close(weight.view(50, 70), 2 * left @ right.T, rtol=1e-5, atol=1e-5)
