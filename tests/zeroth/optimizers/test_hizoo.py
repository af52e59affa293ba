from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from reference.hizoo_twin import Twin
from reference.lowrank_twin import numbers
from reference.quadratic_problem import Problem, assert_close
from shoestring.errors import OptimizerError, UnknownNameError
from shoestring.seeds import derive
from shoestring.zeroth import HiZOO, HiZOOL
from shoestring.zeroth.smoothing import SCHEDULES, alpha_at, pieces

Make = Callable[..., HiZOO]
COMMON: dict[str, Any] = {"eps": 1e-3, "seed": 4, "engine": "replay"}
BOTH = pytest.mark.parametrize("make", [HiZOO, HiZOOL])


@BOTH
@pytest.mark.parametrize("smoothing", [0.0, 1e-3, 0.05, [(0, 0.01), (2, 0.0), (3, 0.1)]])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_and_diagonal_are_those_written_out(make: Make, smoothing: Any, decay: float) -> None:
    ours, slow = Problem(), Problem()
    twin = Twin(slow, seed=4, lr=5e-3, eps=1e-3, decay=decay, factored=make is HiZOOL)
    optimizer = make(ours.params.items(), lr=5e-3, smoothing=smoothing, weight_decay=decay, **COMMON)
    for step in range(6):
        optimizer.step(ours.loss)
        twin.step(alpha_at(optimizer.shared["smoothing"], step))
        assert_close(ours, slow, 2e-6)
        for name, wanted in twin.diagonal.items():
            # The curvature is a difference of losses over eps^2: it carries 1e-16 / 1e-6 times their size.
            torch.testing.assert_close(optimizer.diagonal(ours.params[name]), wanted, rtol=1e-5, atol=1e-7)
    moved = [float((value - 1).abs().max()) for value in twin.diagonal.values()]
    assert all(value > 1e-3 for value in moved) if smoothing else not any(moved)


def test_the_points_have_the_old_diagonal_and_the_step_the_new_one() -> None:
    problem = Problem(shapes={"vector": (4,)})
    optimizer = HiZOO(problem.params.items(), lr=1e-2, smoothing=0.3, **COMMON)
    optimizer.step(problem.loss)
    old, before = optimizer.diagonal(problem.params["vector"]), problem.theta()
    seen: list[Tensor] = []
    optimizer.step(lambda: float(seen.append(problem.theta()) or problem.loss()))
    new, after = optimizer.diagonal(problem.params["vector"]), problem.theta()
    z = numbers("vector", derive(4, "direction", 1, 0), 4)
    assert float((new / old - 1).abs().max()) > 1e-2
    torch.testing.assert_close(seen[0], before)
    torch.testing.assert_close(seen[1], before + 1e-3 * z / old.sqrt(), rtol=0, atol=1e-9)
    torch.testing.assert_close(seen[2], before - 1e-3 * z / old.sqrt(), rtol=0, atol=1e-9)
    step = optimizer.last_projected_grads[0] * z / new.sqrt()
    torch.testing.assert_close(after, before - 1e-2 * step, rtol=0, atol=1e-8)


@BOTH
def test_a_step_takes_three_passes_and_reports_the_loss_where_the_weights_are(make: Make) -> None:
    values = iter([2.0, 3.0, 5.0])
    optimizer = make(Problem().params.items(), **COMMON)
    assert float(optimizer.step(lambda: next(values))) == 2.0
    assert optimizer.last_passes == 3


@BOTH
def test_with_a_diagonal_that_stays_the_mean_estimate_is_the_gradient_over_it(make: Make) -> None:
    problem = Problem(shapes={"matrix": (3, 2), "vector": (2,)})
    optimizer = make(problem.params.items(), lr=1e-9, smoothing=0.3, **COMMON)
    for _ in range(4):
        optimizer.step(problem.loss)
    curvature = torch.cat([optimizer.diagonal(param).reshape(-1) for param in problem.params.values()])
    assert float(curvature.max() / curvature.min()) > 1.3
    gradient = torch.cat([value.reshape(-1) for value in problem.gradient().values()])
    optimizer.shared["lr"], optimizer.shared["smoothing"] = 1.0, [[0, 0.0]]
    start, before, found = problem.values(), problem.theta(), []
    for _ in range(800):
        optimizer.step(problem.loss)
        found.append(before - problem.theta())
        problem.put(start)
    moves = torch.stack(found)
    error = moves.std(0) / math.sqrt(len(moves))
    assert torch.all((moves.mean(0) - gradient / curvature).abs() < 4 * error)
    assert not torch.all((moves.mean(0) - gradient).abs() < 4 * error)


def wide_problem(dtype: torch.dtype) -> tuple[nn.Parameter, Callable[[], Tensor]]:
    """Return 20,000 weights and a loss whose curvature s, half the Hessian's trace, is 5."""
    theta = nn.Parameter(torch.linspace(-0.5, 0.5, 20_000).to(dtype))
    return theta, lambda: (theta.detach().double().square() * 2.5e-4).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("alpha", [1e-8, 1e-12])
def test_nearly_all_of_the_diagonal_moves_in_every_precision(dtype: torch.dtype, alpha: float) -> None:
    theta, loss = wide_problem(dtype)
    optimizer = HiZOO([("theta", theta)], lr=0.0, eps=0.1, seed=4, smoothing=alpha, engine="replay")
    held = torch.zeros(20_000)
    changed, changed_in_float32, wanted = [], [], torch.zeros(20_000, dtype=torch.float64)
    for step in range(5):
        optimizer.estimate(loss)
        curvature = optimizer._estimate.extra if optimizer._estimate else 0.0
        optimizer.step()
        new = optimizer.state[theta]["excess"].clone()
        assert new.dtype == torch.float32
        changed.append(float((new != held).double().mean()))
        z = numbers("theta", derive(4, "direction", step, 0), 20_000)
        increments = alpha * (curvature * z.square() - 1) * (1 + wanted)
        wanted += increments
        plain = torch.ones(20_000) * (1 - alpha) + (alpha * curvature * z.square()).float()
        changed_in_float32.append(float((plain != 1).double().mean()))
        held = new
    assert min(changed) > 0.99
    torch.testing.assert_close(held.double(), wanted, rtol=1e-5, atol=float(wanted.abs().max()) * 1e-6)
    # Kept as H itself, in float32 and in the reference's order of operations, the coordinates of small z would stay.
    assert max(changed_in_float32) < 0.5


def test_a_diagonal_far_from_one_is_held_as_float32_holds_it() -> None:
    theta, loss = wide_problem(torch.float32)
    optimizer = HiZOO([("theta", theta)], lr=0.0, eps=0.1, seed=4, smoothing=0.02, engine="replay")
    wanted = torch.ones(20_000, dtype=torch.float64)
    for step in range(30):
        optimizer.estimate(loss)
        curvature = min(optimizer._estimate.extra, 3.0) if optimizer._estimate else 0.0
        object.__setattr__(optimizer._estimate, "extra", curvature)
        optimizer.step()
        wanted *= 1 + 0.02 * (curvature * numbers("theta", derive(4, "direction", step, 0), 20_000).square() - 1)
    assert float(wanted.max()) > 5
    torch.testing.assert_close(optimizer.diagonal(theta).double(), wanted, rtol=1e-5, atol=0)


@BOTH
def test_the_diagonal_has_a_floor(make: Make) -> None:
    problem = Problem()
    optimizer = make(problem.params.items(), lr=1e-3, smoothing=0.9, floor=0.25, **COMMON)
    for _ in range(20):
        optimizer.step(lambda: 1.0)
    values = torch.cat([optimizer.diagonal(param).reshape(-1) for param in problem.params.values()])
    torch.testing.assert_close(values, torch.full_like(values, 0.25))
    seen: list[Tensor] = []
    optimizer.step(lambda: float(seen.append(problem.theta()) or 1.0))
    z = numbers("vector", derive(4, "direction", 20, 0), 4)
    torch.testing.assert_close(seen[1][15:19] - seen[0][15:19], 1e-3 * z / 0.5, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_below_one_the_diagonal_sinks_as_far_as_documented(dtype: torch.dtype) -> None:
    theta = nn.Parameter(torch.ones(8, dtype=dtype))
    optimizer = HiZOO([("theta", theta)], lr=0.0, smoothing=0.1, **COMMON)
    for _ in range(250):
        optimizer.step(lambda: 1.0)
    found = optimizer.diagonal(theta)
    least, most = (1e-8, 1e-8) if dtype == torch.float64 else (2e-7, 3.1e-7)
    assert bool(((least <= found) & (found <= most)).all())


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_resume_is_bit_for_bit(make: Make, dtype: torch.dtype, steps: int) -> None:
    problem, other = Problem(dtype), Problem(dtype)
    whole = make(problem.params.items(), lr=1e-3, smoothing=[(0, 0.1), (2, 0.01)], **COMMON)
    for _ in range(steps):
        whole.step(problem.loss)
    other.put(problem.values())
    resumed = make(other.params.items(), engine="replay")
    resumed.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict())))
    for _ in range(4):
        whole.step(problem.loss)
        resumed.step(other.loss)
    assert_close(problem, other, 0)
    for name, param in problem.params.items():
        assert torch.equal(whole.diagonal(param), resumed.diagonal(other.params[name]))


@pytest.mark.parametrize("engine", ["replay", "fused"])
@BOTH
def test_an_engine_that_moves_later_takes_back_perturbations_by_the_diagonal_they_were_made_with(
    make: Make, engine: str
) -> None:
    ours, slow = Problem(), Problem()
    twin = Twin(slow, seed=4, lr=5e-3, eps=1e-3, factored=make is HiZOOL)
    optimizer = make(ours.params.items(), lr=5e-3, smoothing=0.2, **COMMON | {"engine": engine})
    for _ in range(5):
        optimizer.step(ours.loss)
        twin.step(0.2)
    optimizer.finalize()
    assert_close(ours, slow, 5e-6)


def test_state_is_as_large_as_documented() -> None:
    for make in (HiZOO, HiZOOL):
        shapes = {"matrix": (160, 160), "cube": (6, 4, 5), "vector": (7,)}
        params = {name: nn.Parameter(torch.ones(shape, dtype=torch.bfloat16)) for name, shape in shapes.items()}
        optimizer = make(params.items(), smoothing=0.1, **COMMON)
        optimizer.step(lambda: 1.0)
        held = {name: list(optimizer.state[param].values()) for name, param in params.items()}
        sizes = {name: sum(value.numel() for value in values) for name, values in held.items()}
        if make is HiZOO:
            assert sizes == {"matrix": 25_600, "cube": 120, "vector": 7}
            assert all(value.dtype == torch.float32 for values in held.values() for value in values)
        else:
            assert sizes == {"matrix": 320, "cube": 26, "vector": 7}
            assert sum(value.nbytes for value in held["matrix"]) <= 0.1 * params["matrix"].nbytes


def test_factors_multiply_to_a_diagonal_that_is_their_own() -> None:
    """Where z^2 is an outer product, rows and columns lose nothing: HiZOO-L is HiZOO."""
    one, other = (Problem(shapes={"matrix": (5, 1)}) for _ in range(2))
    whole, factored = (make(p.params.items(), lr=1e-2, smoothing=0.2, **COMMON) for make, p in
                       ((HiZOO, one), (HiZOOL, other)))  # fmt: skip
    for _ in range(5):
        whole.step(one.loss)
        factored.step(other.loss)
    torch.testing.assert_close(whole.diagonal(one.params["matrix"]), factored.diagonal(other.params["matrix"]))
    assert_close(one, other, 1e-6)


def test_smoothing_is_a_number_a_schedule_or_a_name() -> None:
    assert pieces("HiZOO", 1e-6) == [[0, 1e-6]]
    assert pieces("HiZOO", cast("Any", torch.tensor(0.5))) == [[0, 0.5]]
    assert pieces("HiZOO", [(0, 0.5), (7, 0.1)]) == [[0, 0.5], [7, 0.1]]
    assert set(SCHEDULES) == {
        "constant0", "constant1e-2", "constant1e-4", "constant1e-6", "constant1e-8", "constant1e-10", "constant1e-12",
        "constant_decay1",
    }  # fmt: skip
    for name, values in SCHEDULES.items():
        if name.startswith("constant1e"):
            assert values == [(0, pytest.approx(float(name.removeprefix("constant"))))]
    decay = pieces("HiZOO", "constant_decay1")
    assert [alpha_at(decay, step) for step in (0, 9799, 9800, 20_000)] == [1e-6, 1e-6, 1e-8, 1e-8]
    assert alpha_at(pieces("HiZOO", "constant0"), 5) == 0


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "alpha": ({"smoothing": 1.5}, OptimizerError, r"HiZOO: smoothing=1\.5; it must be at least 0 and below 1"),
    "alpha later": ({"smoothing": [(0, 0.1), (5, -1.0)]}, OptimizerError, r"HiZOO: smoothing=-1\.0"),
    "late": ({"smoothing": [(3, 0.1)]}, OptimizerError, r"smoothing=\[\(3, 0\.1\)\]; pairs .* begin at step 0"),
    "order": ({"smoothing": [(0, 0.1), (5, 0.2), (5, 0.3)]}, OptimizerError, "their steps grow"),
    "none": ({"smoothing": None}, OptimizerError, r"HiZOO: smoothing=None; give a number, pairs \(first step, alpha\)"),
    "one of a pair": ({"smoothing": [0, 0.1]}, OptimizerError, r"smoothing=\[0, 0\.1\]; give a number, pairs"),
    "a step in words": ({"smoothing": [(0, 0.1), ("5", 0.2)]}, OptimizerError, r"; give a number, pairs"),
    "empty": ({"smoothing": []}, OptimizerError, r"smoothing=\[\]; pairs"),
    "name": ({"smoothing": "constant1e-9"}, UnknownNameError, "unknown HiZOO smoothing 'constant1e-9'; did you mean"),
    "floor": ({"floor": 0.0}, OptimizerError, r"HiZOO: floor=0\.0; it must be finite and positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_work_are_refused(case: str) -> None:
    settings, error, message = BAD[case]
    with pytest.raises(error, match=message):
        HiZOO(Problem().params.items(), **settings)
