from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise.plain import PlainNoise


def dense(seed: int, tensor: int, size: int) -> torch.Tensor:
    out = torch.empty(size)
    PlainNoise().fill(out, Source(tensor, "gaussian"), seed)
    return out


def test_values_are_standard_normal() -> None:
    z = dense(1, 0, 200_000).double().numpy()
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    assert abs((z**3).mean()) < 4 * np.sqrt(15 / z.size)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / z.size)
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_directions_of_other_seeds_and_tensors_are_uncorrelated() -> None:
    size = 50_000
    streams = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (1 << 62, 0)]
    drawn = [dense(seed, tensor, size).double() for seed, tensor in streams]
    for one, other in itertools.combinations(drawn, 2):
        assert abs(float(one @ other) / size) < 4.5 / np.sqrt(size)


def test_neighbouring_elements_are_uncorrelated() -> None:
    z = dense(3, 0, 100_000).double()
    for lag in (1, 2, 7):
        assert abs(float(z[lag:] @ z[:-lag]) / len(z)) < 4 / np.sqrt(len(z))


@given(st.integers(1, 40), st.integers(0, 40))
def test_a_shorter_tensor_gets_the_beginning_of_the_same_values(short: int, more: int) -> None:
    assert torch.equal(dense(5, 1, short + more)[:short], dense(5, 1, short))


def test_drawing_touches_no_global_generator(global_random_states: None) -> None:
    dense(1, 0, 100)
