"""The numbers are independent and of the stated distribution, along a tensor and across tensors, steps and seeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from reference import noise_twin
from shoestring.zeroth.noise import noise_for, philox
from shoestring.zeroth.noise.base import Distribution, Source
from shoestring.zeroth.noise.plain import PlainNoise, words

CPU = torch.device("cpu")
# Ever different: in the low word, in the high word, in one bit, with seed and key exchanged.
STREAMS = [(0, 0), (1, 0), (0, 1), (1, 1), (1 << 32, 0), (0, 1 << 32), (1 << 62, 0), (0, 1 << 62), (7, 1 << 40)]


def drawn(distribution: Distribution, seed: int, key: int, size: int, start: int = 0) -> torch.Tensor:
    out = torch.empty(size)
    noise_for(out).fill(out, Source(key, distribution), seed, start)
    return out.double()


def test_moments_and_distribution_are_those_of_the_standard_normal() -> None:
    z = drawn("gaussian", 1, 0, 1_000_000).numpy()
    for power, mean, square in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (6, 15, 10395)):
        assert abs((z**power).mean() - mean) < 4 * math.sqrt((square - mean**2) / z.size)
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_tails_are_those_of_the_standard_normal() -> None:
    z = drawn("gaussian", 2, 0, 4_000_000)
    for limit in (2.0, 3.0, 4.0, 4.7):
        for side in (z > limit, z < -limit):
            expected = len(z) * stats.norm.sf(limit)
            assert abs(float(side.sum()) - expected) < 4.5 * math.sqrt(expected)
    assert float(z.abs().max()) < 6.67


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_neighbouring_elements_are_uncorrelated(distribution: Distribution) -> None:
    z = drawn(distribution, 3, 0, 400_000)
    # 16, 32, 48 and 64 are where elements of one block, or of neighbouring blocks, lie.
    for lag in (1, 2, 3, 7, 15, 16, 17, 32, 48, 64, 127, 128, 129, 512, 2048):
        assert abs(float(z[lag:] @ z[:-lag])) < 4.5 * math.sqrt(len(z))
        if distribution == "gaussian":
            squares = z * z - 1
            assert abs(float(squares[lag:] @ squares[:-lag])) < 4.5 * 2 * math.sqrt(len(z))


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_directions_of_other_seeds_steps_and_tensors_are_independent(distribution: Distribution) -> None:
    size = 100_000
    made = [drawn(distribution, seed, key, size) for seed, key in STREAMS]
    made.append(drawn(distribution, 0, 0, size, 1 << 20))
    # 45 pairs: |t| > 5 happens by chance once in 40,000 runs.
    for one, other in itertools.combinations(made, 2):
        assert abs(float(one @ other)) < 5 * math.sqrt(size)
        if distribution == "gaussian":
            assert abs(float((one**2 - 1) @ (other**2 - 1))) < 5 * 2 * math.sqrt(size)


def test_many_consecutive_seeds_give_independent_directions() -> None:
    size, seeds = 256, 1000
    z = torch.stack([drawn("gaussian", seed, 5, size) for seed in range(seeds)])
    eigenvalues = torch.linalg.eigvalsh(z.T @ z / seeds)
    edge = math.sqrt(size / seeds)
    # Marchenko and Pastur: all lie between (1 - edge)^2 and (1 + edge)^2, up to fluctuations of size n^(-2/3).
    assert (1 - edge) ** 2 - 0.03 < float(eigenvalues[0])
    assert float(eigenvalues[-1]) < (1 + edge) ** 2 + 0.1


def test_no_block_comes_twice() -> None:
    made = [
        torch.stack(words(seed, key, stream, block, 5000, CPU), 1)
        for seed, key in STREAMS
        for stream in (philox.GAUSSIAN, philox.RADEMACHER, philox.ROUNDING)
        for block in (0, 1 << 32)
    ]
    blocks = torch.cat(made).numpy()
    assert len(np.unique(blocks, axis=0)) == len(blocks)


def test_signs_are_balanced_at_every_place_of_a_block_and_pairwise_independent() -> None:
    blocks = 20_000
    signs = drawn("rademacher", 4, 0, 128 * blocks).view(blocks, 128)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert float(signs.mean(0).abs().max()) < 5 / math.sqrt(blocks)
    correlation = (signs.T @ signs / blocks).fill_diagonal_(0)
    # 8,128 pairs: |t| > 5.5 happens by chance once in 3,000 runs.
    assert float(correlation.abs().max()) < 5.5 / math.sqrt(blocks)


def test_drawing_touches_no_global_generator(global_random_states: None) -> None:
    drawn("gaussian", 1, 0, 100)
    drawn("rademacher", 1, 0, 100)


@pytest.mark.parametrize("share", [2**-1, 2**-5])
def test_roundings_at_any_two_places_of_a_group_are_independent(share: float) -> None:
    groups = 4000
    total = torch.full((512 * groups,), 1 + share * 2**-7)
    weight = torch.empty(512 * groups, dtype=torch.bfloat16)
    PlainNoise().write(weight, total, 3, 0, rounding=9)
    up = ((weight.float() > 1).float() - share).view(groups, 512) / math.sqrt(share * (1 - share))
    # 512 means and 130,816 pairs: |t| > 6 happens by chance once in 3,000 runs (the tails of rare events are heavier).
    assert float(up.mean(0).abs().max()) < 6 / math.sqrt(groups)
    correlation = (up.T @ up / groups).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 7 / math.sqrt(groups)


def test_eight_powers_of_a_pair_are_pairwise_one_to_one() -> None:
    # (a + x^j b, a + x^k b) gives back (a, b) if x^j + x^k has an inverse: if it is not 0.
    powers = [noise_twin.times(1 << power, 1) for power in range(8)]
    assert len(set(powers)) == 8
    # x generates the whole field: no number but 0 is lost in multiplying by it.
    value, period = 1, 0
    while period == 0 or value != 1:
        value, period = noise_twin.times(value, 2), period + 1
    assert period == 2**16 - 1
