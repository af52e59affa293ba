"""Stochastic rounding gives one of the two neighbours, right in the mean."""

from __future__ import annotations

import math

import pytest
import torch

from reference import noise_twin
from shoestring.zeroth.noise import using
from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise.plain import wide, write

BACKENDS = pytest.mark.parametrize("backend", ["torch", "numba"])
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
SOURCE = Source(8, "gaussian")


def rounded(backend: str, value: float, dtype: torch.dtype, size: int, rounding: int = 1) -> torch.Tensor:
    """Round one float32 number many times: 1 x value."""
    weight = torch.ones(size, dtype=dtype)
    with using(backend) as noise:
        noise.add(weight, SOURCE, [], keep=value, rounding=rounding)
    return weight.double()


def neighbours(value: float, dtype: torch.dtype) -> tuple[float, float]:
    """Return the largest number of the dtype <= value and the smallest >= value, from all there are."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).double()
    every = every[~every.isnan()]
    return float(every[every <= value].max()), float(every[every >= value].min())


@BACKENDS
@HALVES
@pytest.mark.parametrize(
    "value", [1.001, -0.3, 1 / 3, 3e-3, -7.7e-5, 3.1e-5, 2.5e-6, -1e-7, 1e-8, 2**-14 - 2**-38, 60000.7, -1 - 2**-20]
)
def test_the_mean_of_many_roundings_is_the_number(backend: str, dtype: torch.dtype, value: float) -> None:
    size = 200_000
    value = torch.tensor(value).item()
    low, high = neighbours(value, dtype)
    made = rounded(backend, value, dtype, size)
    assert set(made.unique().tolist()) <= {low, high}
    share = (value - low) / (high - low)
    error = (high - low) * math.sqrt(share * (1 - share) / size)
    # Below 2^-17 float16 knows the chance to 2^-16.
    known = 2**-16 * (high - low) if dtype == torch.float16 and abs(value) < 2**-17 else 0
    assert abs(float(made.mean()) - value) <= 4 * error + known


@BACKENDS
@HALVES
def test_the_neighbour_comes_as_often_as_the_bits_say(backend: str, dtype: torch.dtype) -> None:
    value, size, start = 1 + 2**-11 + 2**-13, 600, 37
    weight = torch.ones(size, dtype=dtype)
    with using(backend) as noise:
        noise.add(weight, SOURCE, [], start, value, rounding=3)
    share = (value - 1) / torch.finfo(dtype).eps
    up = [noise_twin.dither(3, SOURCE.key, start + i) >= 2**16 * (1 - share) for i in range(size)]
    assert (weight > 1).tolist() == up


@BACKENDS
@HALVES
def test_numbers_of_the_dtype_stay_as_they_are(backend: str, dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for seed in range(3):
        weight = every.clone()
        with using(backend) as noise:
            noise.add(weight, SOURCE, [], rounding=seed)
        same = weight.view(torch.int16) == every.view(torch.int16)
        assert bool((same | (weight.isnan() & every.isnan())).all())


@BACKENDS
@HALVES
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_so(backend: str, dtype: torch.dtype, value: float) -> None:
    made = rounded(backend, value, dtype, 100)
    assert bool((made.isnan() if math.isnan(value) else made == value).all())


@BACKENDS
@HALVES
def test_beyond_the_largest_number_lies_infinity_as_in_rounding_to_the_nearest(
    backend: str, dtype: torch.dtype
) -> None:
    largest = torch.finfo(dtype).max
    gap = 2.0 ** math.floor(math.log2(largest)) * torch.finfo(dtype).eps
    for sign in (1, -1):
        made = rounded(backend, sign * (largest + gap / 4), dtype, 4000)
        assert set(made.unique().tolist()) == {sign * largest, sign * math.inf}
        assert abs(float(made.isinf().double().mean()) - 1 / 4) < 4 * math.sqrt(3 / 16 / 4000)


@BACKENDS
@HALVES
def test_many_tiny_updates_arrive_in_the_mean_where_rounding_to_the_nearest_loses_them(
    backend: str, dtype: torch.dtype
) -> None:
    size, steps = 20_000, 100
    step = torch.finfo(dtype).eps / 64
    weight, naive = torch.ones(size, dtype=dtype), torch.ones(size, dtype=dtype)
    with using(backend) as noise:
        for number in range(steps):
            noise.add(weight, SOURCE, [], keep=1 + step, rounding=number)
            noise.add(naive, SOURCE, [], keep=1 + step)
    grown = (1 + step) ** steps - 1
    error = torch.finfo(dtype).eps * math.sqrt(steps / 64 / size)
    assert bool((naive == 1).all())
    assert abs(float(weight.double().mean()) - 1 - grown) < 4 * error + grown * step


@BACKENDS
@HALVES
def test_roundings_of_other_seeds_tensors_and_places_are_independent(backend: str, dtype: torch.dtype) -> None:
    size, value = 20_000, 1 + torch.finfo(dtype).eps / 2
    drawn = []
    for seed, key, start in ((0, 0, 0), (1, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 1 << 32, 0), (0, 0, size)):
        weight = torch.ones(size, dtype=dtype)
        with using(backend) as noise:
            noise.add(weight, Source(key, "gaussian"), [], start, value, seed)
        drawn.append((weight.double() > 1).double() * 2 - 1)
    for place, one in enumerate(drawn):
        for other in drawn[:place]:
            assert abs(float(one @ other)) < 4.5 * math.sqrt(size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_weights_are_not_rounded(dtype: torch.dtype) -> None:
    weight, total = torch.zeros(5, dtype=dtype), torch.linspace(0, 1, 5, dtype=wide(dtype))
    write(weight, total, 0, 0, rounding=1)
    assert torch.equal(weight, total)
