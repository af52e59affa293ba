"""Calls that are made ready beforehand write what `points` writes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shoestring.zeroth.directions.base import DIRECTIONS, Directions, Target
from shoestring.zeroth.directions.dense import gaussian, rademacher
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.masks import Places
from shoestring.zeroth.noise import using
from shoestring.zeroth.tensors import Trained, trained_tensors

SHAPE = (70, 90)
TABLES = {"both ends": ((0.1,), (-0.1,)), "three": ((0.1, 0.0), (-0.1, 0.2), (0.0, 0.0))}


def family_named(name: str) -> Directions:
    wrapped = {
        "scaled": lambda: Scaled(rademacher(), {"w": -3.0}),
        "left alone": lambda: Scaled(gaussian(), {}),
        "masked": lambda: Masked(gaussian(), {"w": Places(torch.arange(0, 6300, 7))}),
    }
    return wrapped.get(name, lambda: DIRECTIONS.get(name)())()


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", [*DIRECTIONS.names(), "scaled", "left alone", "masked"])
def test_a_call_made_ready_writes_what_points_does_however_often(
    name: str, table: str, dtype: torch.dtype, backend: str
) -> None:
    family, tensor = family_named(name), tensor_of(dtype)
    rows = TABLES[table]
    seeds, weight, start = tuple(range(3, 3 + len(rows[0]))), tensor.flat[630:4410], 630
    with using(backend):
        family.prepare([tensor])
        outs = torch.full((len(rows), len(weight)), 7.0, dtype=dtype)
        write = family.ready(Target(outs, weight, tensor, start), seeds, rows)
        assert bool((outs == 7).all()), "nothing is written before it is called"
        for factor in (1.0, 2.0):
            weight *= factor
            right = torch.empty_like(outs)
            family.points(right, weight, tensor, seeds, rows, start)
            write()
            assert torch.equal(outs, right)
            outs.zero_()


def tensor_of(dtype: torch.dtype) -> Trained:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    return trained_tensors([{"params": [nn.Parameter(values)], "param_names": ["w"]}])[0]
