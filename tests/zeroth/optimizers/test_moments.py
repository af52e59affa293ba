from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reference.moments_twin import Twin
from reference.quadratic_problem import Problem, assert_close
from shoestring.errors import OptimizerError
from shoestring.zeroth import ZOAdam, ZOMomentum
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.dense import Dense

Make = Callable[..., ZerothOrder]
COMMON: dict[str, Any] = {"eps": 1e-3, "seed": 4, "engine": "replay"}
CASES: dict[str, dict[str, Any]] = {
    "one direction": {"samples": 1, "weight_decay": 0.0},
    "three, decay": {"samples": 3, "weight_decay": 0.2},
}


def twin_of(problem: Problem, lr: float, case: dict[str, Any], history: int = 10**6) -> Twin:
    return Twin(problem, seed=4, eps=1e-3, lr=lr, samples=case["samples"], decay=case["weight_decay"], history=history)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("moments", ["stored", "recompute", 3])
def test_steps_with_momentum_are_those_written_out(moments: Any, case: str) -> None:
    ours, slow = Problem(), Problem()
    twin = twin_of(slow, 2e-3, CASES[case], 3 if moments == 3 else 10**6)
    optimizer = ZOMomentum(ours.params.items(), lr=2e-3, momentum=0.7, moments=moments, **CASES[case], **COMMON)
    for _ in range(7):
        optimizer.step(ours.loss)
        twin.momentum_step(0.7)
        assert_close(ours, slow, 1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("moments", ["stored", "recompute", 3])
def test_steps_of_adam_are_those_written_out(moments: Any, case: str) -> None:
    ours, slow = Problem(), Problem()
    twin = twin_of(slow, 1e-2, CASES[case], 3 if moments == 3 else 10**6)
    settings: dict[str, Any] = {"betas": (0.6, 0.8), "floor": 1e-3, "moments": moments}
    optimizer = ZOAdam(ours.params.items(), lr=1e-2, **settings, **CASES[case], **COMMON)
    for _ in range(7):
        optimizer.step(ours.loss)
        twin.adam_step(0.6, 0.8, 1e-3)
        assert_close(ours, slow, 1e-6)


def test_adam_is_torchs_adam_given_the_same_gradients() -> None:
    ours, theirs = Problem(), Problem()
    seen: list[dict[str, torch.Tensor]] = []
    optimizer = ZOAdam(ours.params.items(), lr=1e-2, weight_decay=0.1, **COMMON)
    adam = torch.optim.AdamW(theirs.params.values(), lr=1e-2, weight_decay=0.1)
    for step in range(5):
        optimizer.step(ours.loss)
        slow = twin_of(theirs, 0.0, CASES["one direction"])
        slow.estimates = [*seen]
        slow.estimate()
        seen.append(slow.estimates[step])
        for name, param in theirs.params.items():
            param.grad = seen[step][name]
        adam.step()
    assert_close(ours, theirs, 1e-6)


def test_tensors_that_come_later_have_moments_of_as_many_steps_as_they_have_had() -> None:
    problem = Problem()
    late = nn.Parameter(problem.params.pop("cube").detach().clone())
    names = list(problem.params)

    def loss() -> torch.Tensor:
        parts = [problem.params[name] for name in names] + [late]
        return sum((part.double().square().sum() for part in parts), torch.zeros(()))

    def optimizer_of(params: Any) -> ZOAdam:
        return ZOAdam(params, lr=1e-2, directions=Some(), **COMMON)

    optimizer = optimizer_of(problem.params.items())
    for _ in range(5):
        optimizer.step(loss)
    optimizer.add_param_group({"params": [("late", late)]})
    before = late.detach().clone()
    optimizer.step(loss)
    moved = (late.detach() - before).abs().reshape(-1)
    torch.testing.assert_close(moved[::2], torch.full_like(moved[::2], 1e-2), rtol=1e-4, atol=0)  # As Adam's first.
    assert problem.params["vector"] not in optimizer.state
    saved, twin = copy.deepcopy(optimizer.state_dict()), copy.deepcopy((problem.params, late))
    optimizer.step(loss)
    found = late.detach().clone()
    problem.params, late = twin
    again = optimizer_of(problem.params.items())
    again.add_param_group({"params": [("late", late)]})
    again.load_state_dict(saved)
    again.step(loss)
    torch.testing.assert_close(late.detach(), found, rtol=0, atol=0)


def test_moments_are_not_recomputed_for_tensors_without_a_past() -> None:
    problem = Problem()
    optimizer = ZOMomentum(problem.params.items(), moments=3, **COMMON)
    late = [("late", nn.Parameter(torch.ones(2)))]
    optimizer.step(problem.loss)
    with pytest.raises(
        OptimizerError, match=r"ZOMomentum: parameters that come after the first step .*moments='stored'"
    ):
        optimizer.add_param_group({"params": late})
    assert len(optimizer.param_groups) == 1
    before = ZOMomentum(problem.params.items(), moments=3, **COMMON)
    before.add_param_group({"params": late})
    before.step(problem.loss)


BOTH: dict[str, tuple[Make, dict[str, Any]]] = {
    "momentum": (ZOMomentum, {"momentum": 0.5}),
    "adam": (ZOAdam, {"betas": (0.5, 0.6)}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rule", BOTH)
def test_recomputed_moments_are_the_stored_ones_bit_for_bit_until_a_step_is_left_out(
    rule: str, dtype: torch.dtype
) -> None:
    make, settings = BOTH[rule]
    stored, recomputed = Problem(dtype), Problem(dtype)
    one = make(stored.params.items(), lr=1e-3, **settings, **COMMON)
    other = make(recomputed.params.items(), lr=1e-3, moments=6, **settings, **COMMON)
    for _ in range(6):
        one.step(stored.loss)
        other.step(recomputed.loss)
        assert_close(stored, recomputed, 0)


@pytest.mark.parametrize("rule", BOTH)
def test_what_the_default_history_leaves_out_is_negligible(rule: str) -> None:
    make, settings = BOTH[rule]
    stored, recomputed = Problem(), Problem()
    one = make(stored.params.items(), lr=1e-3, **settings, **COMMON)
    other = make(recomputed.params.items(), lr=1e-3, moments="recompute", **settings, **COMMON)
    history = other.shared["history"]
    assert max(0.5, *settings.get("betas", (0,))) ** history <= 1e-4 < 0.6 ** (history - 5)
    start = stored.theta()
    for _ in range(history + 12):
        one.step(stored.loss)
        other.step(recomputed.loss)
    assert len(other.shared["past"]) == history
    moved = float((stored.theta() - start).norm())
    assert 0 < float((stored.theta() - recomputed.theta()).norm()) < 3e-4 * moved


def test_the_default_histories_are_as_documented() -> None:
    params = [nn.Parameter(torch.ones(3))]
    assert ZOMomentum(params, moments="recompute").shared["history"] == 88
    assert ZOAdam(params, moments="recompute").shared["history"] == 9206
    assert ZOMomentum(params, momentum=0.0, moments="recompute").shared["history"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("moments", ["stored", 3])
@pytest.mark.parametrize("rule", BOTH)
def test_a_resume_is_bit_for_bit(rule: str, moments: Any, dtype: torch.dtype) -> None:
    make, settings = BOTH[rule]
    problem, other = Problem(dtype), Problem(dtype)
    whole = make(problem.params.items(), lr=1e-3, samples=2, moments=moments, **settings, **COMMON)
    for _ in range(4):
        whole.step(problem.loss)
    other.put(problem.values())
    resumed = make(other.params.items(), engine="replay")
    saved = whole.state_dict()
    resumed.load_state_dict(pickle.loads(pickle.dumps(saved)))
    kept = pickle.dumps(saved["param_groups"])
    for _ in range(4):
        whole.step(problem.loss)
        resumed.step(other.loss)
    assert_close(problem, other, 0)
    assert pickle.dumps(saved["param_groups"][0]["past"]) == pickle.dumps(pickle.loads(kept)[0]["past"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_is_in_float32_and_as_large_as_documented(dtype: torch.dtype) -> None:
    for rule, wanted in (("momentum", 1), ("adam", 2)):
        make, settings = BOTH[rule]
        for moments, share in (("stored", wanted), (4, 0)):
            problem = Problem(dtype)
            optimizer = make(problem.params.items(), moments=moments, **settings, **COMMON)
            optimizer.step(problem.loss)
            kept = [value for state in optimizer.state.values() for value in state.values()]
            held = [value for value in kept if isinstance(value, torch.Tensor)]
            assert sum(value.numel() for value in held) == share * len(problem.theta())
            assert all(value.dtype == torch.float32 for value in held)


@pytest.mark.parametrize("rule", BOTH)
def test_parts_of_a_tensor_in_any_order_move_it_as_the_whole_does(rule: str) -> None:
    make, settings = BOTH[rule]
    moved = []
    for cuts in ([(0, 7)], [(5, 7), (0, 2), (2, 5)]):
        problem = Problem(torch.float32, {"vector": (7,)})
        optimizer = make(problem.params.items(), lr=1e-2, weight_decay=0.1, **settings, **COMMON)
        for _ in range(2):
            optimizer.estimate(problem.loss)
            estimate = optimizer._estimate
            assert estimate is not None
            update = optimizer.update(estimate)
            for start, stop in cuts:
                update(optimizer.engine.tensors[0], start, stop)
        moved.append(problem.theta())
    assert torch.equal(*moved)


class Some(Directions):
    """Moves the even elements of tensors but the vector, and nothing there."""

    def __init__(self) -> None:
        self.base = Dense("gaussian")

    def touches(self, tensor: Any) -> bool:
        return tensor.name != "vector"

    def chosen(self, tensor: Any, start: int, stop: int) -> torch.Tensor:
        return torch.arange(start, stop) % 2 == 0

    def fill(self, out: torch.Tensor, tensor: Any, seed: int, start: int = 0) -> None:
        self.base.fill(out, tensor, seed, start)
        out *= self.chosen(tensor, start, start + len(out))


@pytest.mark.parametrize("rule", BOTH)
def test_weights_that_are_not_chosen_stay_and_tensors_left_alone_have_no_state(rule: str) -> None:
    make, settings = BOTH[rule]
    problem = Problem()
    before = problem.values()
    optimizer = make(problem.params.items(), lr=1e-2, weight_decay=0.1, directions=Some(), **settings, **COMMON)
    optimizer.step(problem.loss)
    for name, param in problem.params.items():
        stays = (param.data == before[name]).reshape(-1)
        assert bool(stays[1::2].all())
        assert not bool(stays[::2].any())
        assert (param in optimizer.state) == (name != "vector")


def test_the_first_step_with_momentum_is_an_unbiased_estimate() -> None:
    problem = Problem(shapes={"matrix": (3, 2)})
    start, gradient = problem.values(), problem.gradient()["matrix"]
    found = []
    for seed in range(600):
        ZOMomentum(problem.params.items(), lr=1.0, **COMMON | {"seed": seed}).step(problem.loss)
        found.append(start["matrix"] - problem.params["matrix"].data)
        problem.put(start)
    moves = torch.stack(found)
    assert torch.all((moves.mean(0) - gradient).abs() < 4 * moves.std(0) / math.sqrt(len(found)))


BAD: dict[str, tuple[Make, dict[str, Any], str]] = {
    "momentum": (ZOMomentum, {"momentum": 1.0}, r"ZOMomentum: momentum=1\.0; it must be at least 0 and below 1"),
    "beta": (ZOAdam, {"betas": (0.9, -0.1)}, r"ZOAdam: betas=-0\.1; it must be at least 0 and below 1"),
    "betas": (ZOAdam, {"betas": (0.9,)}, r"ZOAdam: betas=\(0\.9,\); there are two: \(beta1, beta2\)"),
    "betas, one": (ZOAdam, {"betas": 0.9}, r"ZOAdam: betas=0\.9; there are two: \(beta1, beta2\)"),
    "betas, none": (ZOAdam, {"betas": None}, "ZOAdam: betas=None; there are two"),
    "betas, text": (ZOAdam, {"betas": "99"}, "ZOAdam: betas='99'; there are two"),
    "floor": (ZOAdam, {"floor": 0.0}, r"ZOAdam: floor=0\.0; it must be finite and positive"),
    "moments": (ZOAdam, {"moments": "recomputed"}, "ZOAdam: moments='recomputed'; .*'stored', 'recompute'"),
    "moments, none": (ZOMomentum, {"moments": 0}, "ZOMomentum: moments=0; it must be finite and at least 1"),
    "moments, half": (ZOMomentum, {"moments": 1.5}, r"ZOMomentum: moments=1\.5; it must be a whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_work_are_refused(case: str) -> None:
    make, settings, message = BAD[case]
    with pytest.raises(OptimizerError, match=message):
        make(Problem().params.items(), **settings)
