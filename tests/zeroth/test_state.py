from __future__ import annotations

import io

import pytest
import torch

from reference.quadratic_problem import Problem
from shoestring.zeroth import LOZOM


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_state_of_half_precision_weights_stays_in_float32_through_a_file(dtype: torch.dtype) -> None:
    problem, other = Problem(dtype), Problem(dtype)
    optimizer = LOZOM(problem.params.items(), rank=2, engine="replay")
    optimizer.step(problem.loss)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = LOZOM(other.params.items(), rank=1, engine="replay")
    resumed.load_state_dict(saved)
    for name, param in problem.params.items():
        mine, theirs = optimizer.state[param]["momentum"], resumed.state[other.params[name]]["momentum"]
        assert theirs.dtype == torch.float32
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
    assert resumed.shared["rank"] == 2


def test_loading_does_not_tie_the_optimizer_to_the_tensors_it_loaded() -> None:
    problem, other = Problem(torch.float32), Problem(torch.float32)
    optimizer, resumed = (LOZOM(one.params.items(), rank=2, engine="replay") for one in (problem, other))
    optimizer.step(problem.loss)
    saved = optimizer.state_dict()
    resumed.load_state_dict(saved)
    kept = {key: value["momentum"].clone() for key, value in saved["state"].items()}
    resumed.step(other.loss)
    assert all(torch.equal(kept[key], value["momentum"]) for key, value in saved["state"].items())


def test_loading_forgets_an_estimate_that_was_not_applied() -> None:
    problem = Problem()
    optimizer = LOZOM(problem.params.items(), rank=2, engine="replay")
    saved = optimizer.state_dict()
    optimizer.estimate(problem.loss)
    optimizer.load_state_dict(saved)
    with pytest.raises(Exception, match="needs a closure"):
        optimizer.step()
