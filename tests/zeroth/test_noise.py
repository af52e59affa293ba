from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shoestring.zeroth import noise
from shoestring.zeroth.noise import add_direction, gaussian


def dense(seed: int, tensor: int, size: int) -> torch.Tensor:
    return torch.cat([values for _, values in gaussian(seed, tensor, size)])


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


@given(st.integers(0, (1 << 63) - 1), st.integers(0, 5), st.integers(0, 300), st.integers(1, 50))
def test_values_do_not_depend_on_the_chunks(seed: int, tensor: int, size: int, chunk: int) -> None:
    whole = list(gaussian(seed, tensor, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_CHUNK", chunk)
        pieces = list(gaussian(seed, tensor, size))
    assert [part for part, _ in pieces] == [slice(at, min(at + chunk, size)) for at in range(0, size, chunk)]
    values = [value for _, piece in pieces for value in piece.tolist()]
    assert values == [value for _, piece in whole for value in piece.tolist()]


@given(st.integers(1, 40), st.integers(0, 40))
def test_a_shorter_tensor_gets_the_beginning_of_the_same_values(short: int, more: int) -> None:
    assert torch.equal(dense(5, 1, short + more)[:short], dense(5, 1, short))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_direction_is_the_same_whatever_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    param = torch.zeros(7, 5, dtype=dtype)
    add_direction(param, 11, 2, 0.5)
    wide = torch.promote_types(dtype, torch.float32)
    assert torch.equal(param.view(-1), (dense(11, 2, 35).to(wide) * 0.5).to(dtype))


@pytest.mark.parametrize("layout", ["transposed", "every other", "channels last"])
def test_weights_of_any_memory_layout_get_the_same_direction(layout: str) -> None:
    shape = (4, 6, 2, 3)
    param = {
        "transposed": torch.zeros(6, 4, 2, 3).transpose(0, 1),
        "every other": torch.zeros(4, 12, 2, 3)[:, ::2],
        "channels last": torch.zeros(shape).to(memory_format=torch.channels_last),
    }[layout]
    assert not param.is_contiguous()
    add_direction(param, 3, 0, 2.0)
    plain = torch.zeros(shape)
    add_direction(plain, 3, 0, 2.0)
    assert torch.equal(param, plain)


def test_values_are_the_same_on_every_machine() -> None:
    """If this fails, NumPy draws other numbers, and MeZO gives others: say so under "Changes numbers"."""
    wanted = [-0.3608265817165375, -0.20863281190395355, -0.1206943541765213, -0.8719457983970642]
    assert dense(1, 2, 4).tolist() == wanted


def test_drawing_touches_no_global_generator(global_random_states: None) -> None:
    dense(1, 0, 100)
