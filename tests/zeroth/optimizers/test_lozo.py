from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from reference import lowrank_twin
from reference.quadratic_problem import Problem, assert_close
from shoestring.errors import OptimizerError
from shoestring.zeroth import LOZO, LOZOM, SubZero
from shoestring.zeroth.base import ZerothOrder

Make = Callable[..., ZerothOrder]
CASES: dict[str, tuple[Make, dict[str, Any]]] = {
    "lozo": (LOZO, {"rank": 2, "period": 3}),
    "lozo, weight decay": (LOZO, {"rank": 2, "period": 3, "weight_decay": 0.2}),
    "lozo, code's step": (LOZO, {"rank": 3, "period": 2, "divide_by_rank": False}),
    "lozo-m": (LOZOM, {"rank": 2, "period": 3}),
    "lozo-m, other": (
        LOZOM,
        {"rank": 2, "period": 2, "momentum": 0.5, "divide_by_rank": False, "weight_decay": 0.1},
    ),
}


def optimizer_of(problem: Problem, case: str, **changes: Any) -> ZerothOrder:
    make, settings = CASES[case]
    return make(problem.params.items(), **{"lr": 5e-3, "eps": 1e-3, "seed": 4, "engine": "replay"} | settings | changes)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_written_out_over_several_refreshes(case: str) -> None:
    ours, twin = Problem(), Problem()
    start = ours.values()
    make, settings = CASES[case]
    slow = lowrank_twin.LOZO(
        twin, seed=4, lr=5e-3, eps=1e-3, rank=settings["rank"], period=settings["period"],
        decay=settings.get("weight_decay", 0.0), divide=settings.get("divide_by_rank", True),
        momentum=settings.get("momentum", 0.9) if make is LOZOM else None,
    )  # fmt: skip
    optimizer = optimizer_of(ours, case)
    for _ in range(8):
        optimizer.step(ours.loss)
        slow.step()
        assert_close(ours, twin, 1e-6)
    assert all(float((start[name] - ours.params[name].data).abs().max()) > 1e-3 for name in start)


@pytest.mark.parametrize("rank", [2, 64])
def test_steps_of_subzero_are_those_written_out_over_several_refreshes(rank: int) -> None:
    ours, twin = Problem(), Problem()
    optimizer = SubZero(ours.params.items(), lr=5e-3, eps=1e-3, rank=rank, period=2, seed=4, engine="replay")
    for number in range(5):
        optimizer.step(ours.loss)
        lowrank_twin.subzero_step(twin, seed=4, number=number, lr=5e-3, eps=1e-3, rank=rank, period=2)
        assert_close(ours, twin, 1e-6)


@pytest.mark.parametrize("make", [LOZO, LOZOM, SubZero])
def test_the_update_is_along_the_perturbation_at_every_step(make: Make) -> None:
    """Also where the basis is new, where the published code of LOZO moves along another direction."""
    changes: dict[str, Any] = {"momentum": 0.0} if make is LOZOM else {}
    problem = Problem(shapes={"matrix": (6, 5)})
    optimizer = make(problem.params.items(), lr=1e-2, rank=2, period=2, engine="replay", **changes)
    for _ in range(5):
        before = problem.theta()
        seen: list[torch.Tensor] = []
        optimizer.step(lambda seen=seen: float(seen.append(problem.theta()) or problem.loss()))
        cosine = torch.cosine_similarity(problem.theta() - before, seen[0] - before, dim=0)
        assert abs(float(cosine)) > 1 - 1e-9


def moves(make: Make, count: int, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient estimates of many steps from one point, and the gradient."""
    problem = Problem(shapes={"matrix": (4, 3), "vector": (2,)})
    start, gradient = problem.values(), problem.gradient()
    optimizer = make(problem.params.items(), lr=1.0, eps=1e-3, seed=5, engine="replay", **settings)
    before, found = problem.theta(), []
    for _ in range(count):
        optimizer.step(problem.loss)
        found.append(before - problem.theta())
        problem.put(start)
    return torch.stack(found), torch.cat([value.reshape(-1) for value in gradient.values()])


@pytest.mark.parametrize("make", [LOZO, SubZero])
def test_with_a_new_basis_each_step_the_mean_estimate_is_the_gradient(make: Make) -> None:
    found, gradient = moves(make, 400, rank=2, period=1)
    error = found.std(0) / math.sqrt(len(found))
    assert torch.all((found.mean(0) - gradient).abs() < 4 * error)


def test_without_the_division_matrices_move_rank_times_as_far() -> None:
    (one,), _ = moves(LOZO, 1, rank=3)
    (other,), _ = moves(LOZO, 1, rank=3, divide_by_rank=False)
    torch.testing.assert_close(other[:12], 3 * one[:12], rtol=1e-4, atol=0)
    torch.testing.assert_close(other[12:], one[12:], rtol=1e-4, atol=0)


def test_within_a_period_the_mean_estimate_is_the_gradient_seen_through_the_basis() -> None:
    found, gradient = moves(LOZO, 700, rank=2, period=10**6)
    basis = lowrank_twin.derive(5, "basis", 0)
    right = lowrank_twin.numbers("matrix", basis, 3, 2)
    wanted = (gradient[:12].view(4, 3) @ right @ right.T / 2).view(-1)
    error = found[:, :12].std(0) / math.sqrt(len(found))
    assert torch.all((found[:, :12].mean(0) - wanted).abs() < 4 * error)
    assert torch.any((found[:, :12].mean(0) - gradient[:12]).abs() > 8 * error)


def test_within_a_period_subzeros_mean_estimate_is_the_gradient_projected() -> None:
    found, gradient = moves(SubZero, 400, rank=2, period=10**6)
    basis = lowrank_twin.derive(5, "basis", 0)
    left = lowrank_twin.orthonormal("matrix", lowrank_twin.derive(basis, "left"), 4, 2)
    right = lowrank_twin.orthonormal("matrix", lowrank_twin.derive(basis, "right"), 3, 2)
    wanted = (12 / 4 * left @ left.T @ gradient[:12].view(4, 3) @ right @ right.T).view(-1)
    error = found[:, :12].std(0) / math.sqrt(len(found))
    assert torch.all((found[:, :12].mean(0) - wanted).abs() < 4 * error)


def test_momentum_zero_is_lozo() -> None:
    one, other = Problem(), Problem()
    plain, momentum = optimizer_of(one, "lozo"), optimizer_of(other, "lozo-m", momentum=0.0)
    for _ in range(5):
        plain.step(one.loss)
        momentum.step(other.loss)
    assert_close(one, other, 1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [LOZO, LOZOM, SubZero])
def test_a_resume_at_any_phase_of_a_period_is_bit_for_bit(make: Make, steps: int, dtype: torch.dtype) -> None:
    problem = Problem(dtype)
    whole = make(problem.params.items(), lr=1e-3, rank=2, period=3, seed=4, engine="replay")
    for _ in range(steps):
        whole.step(problem.loss)
    other = Problem(dtype)
    other.put(problem.values())
    resumed = make(other.params.items(), lr=1.0, rank=1, engine="replay")
    resumed.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict())))
    for _ in range(4):
        whole.step(problem.loss)
        resumed.step(other.loss)
    assert_close(problem, other, 0)


def test_what_is_saved_is_as_small_as_documented() -> None:
    problem = Problem()
    shapes = {name: param.shape for name, param in problem.params.items()}
    for make in (LOZO, LOZOM, SubZero):
        optimizer = make(problem.params.items(), rank=2, period=2, engine="replay")
        for _ in range(3):
            optimizer.step(problem.loss)
        held = {name: optimizer.state.get(param, {}) for name, param in problem.params.items()}
        if make is LOZOM:
            wanted = {name: shape[0] * 2 if len(shape) > 1 else shape.numel() for name, shape in shapes.items()}
            assert {name: state["momentum"].numel() for name, state in held.items()} == wanted
            assert all(state["momentum"].dtype == torch.float32 for state in held.values())
        else:
            assert not any(held.values())


BAD: dict[str, tuple[Make, dict[str, Any], str]] = {
    "rank": (LOZO, {"rank": 0}, "LOZO: rank=0; it must be a whole number and at least 1"),
    "rank, none": (LOZO, {"rank": None}, "LOZO: rank=None; it must be a whole number and at least 1"),
    "rank, text": (LOZOM, {"rank": "4"}, "LOZOM: rank='4'; it must be a whole number"),
    "rank, infinite": (SubZero, {"rank": math.inf}, "SubZero: rank=inf; it must be a whole number"),
    "rank, subzero": (SubZero, {"rank": 1.5}, r"SubZero: rank=1\.5; it must be a whole number"),
    "period": (LOZOM, {"period": 0}, "LOZOM: period=0; it must be finite and at least 1"),
    "period, half": (SubZero, {"period": 2.5}, r"SubZero: period=2\.5; it must be a whole number"),
    "momentum": (LOZOM, {"momentum": 1.0}, r"LOZOM: momentum=1\.0; it must be at least 0 and below 1"),
    "directions": (LOZO, {"directions": "rademacher"}, "LOZO: directions='rademacher'; LOZO has its own, set by rank"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_work_are_refused(case: str) -> None:
    make, settings, message = BAD[case]
    with pytest.raises(OptimizerError, match=message):
        make(Problem().params.items(), **settings)


def test_a_skipped_step_leaves_the_momentum_as_it_was() -> None:
    problem = Problem()
    optimizer = optimizer_of(problem, "lozo-m", nonfinite="skip", period=1)
    optimizer.step(problem.loss)
    before = optimizer.state[problem.params["matrix"]]["momentum"].clone()
    optimizer.step(lambda: math.nan)
    assert torch.equal(optimizer.state[problem.params["matrix"]]["momentum"], before)
    assert optimizer.state[problem.params["matrix"]]["basis"] == 0
    optimizer.step(problem.loss)
    assert optimizer.state[problem.params["matrix"]]["basis"] == 2
