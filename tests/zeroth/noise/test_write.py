from __future__ import annotations

import itertools

import pytest
import torch

from shoestring.zeroth.noise import using
from shoestring.zeroth.noise.plain import wide, write

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def totals(size: int, dtype: torch.dtype) -> torch.Tensor:
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 0.02
    drawn[:6] = torch.tensor([0.0, 1e-7, 7e4, -7e4, 3e38, 1.0])
    return drawn.to(wide(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounding", [None, 5])
def test_numba_writes_the_bits_of_the_plain_backend(dtype: torch.dtype, rounding: int | None) -> None:
    for size, start in itertools.product((7, 5000), (0, 3, 4097)):
        total = totals(size, dtype)
        plain, ours, slow = (torch.zeros(size, dtype=dtype) for _ in range(3))
        with using("torch") as noise:
            noise.write(plain, total, 9, start, rounding)
        with using("numba") as noise:
            noise.write(ours, total, 9, start, rounding)
        write(slow, total, 9, start, rounding)
        assert torch.equal(plain, slow)
        assert torch.equal(ours, plain)
        assert torch.equal(total, totals(size, dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounding", [None, 5])
def test_triton_writes_the_bits_of_the_plain_backend(dtype: torch.dtype, rounding: int | None) -> None:
    for size, start in itertools.product((7, 5000), (0, 3, 4097)):
        total, plain = totals(size, dtype), torch.zeros(size, dtype=dtype)
        ours = torch.zeros(size, dtype=dtype, device="cuda")
        write(plain, total, 9, start, rounding)
        with using("triton") as noise:
            noise.write(ours, total.cuda(), 9, start, rounding)
        assert torch.equal(ours.cpu(), plain)
