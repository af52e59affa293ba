"""Tensors that are frozen, unfrozen or added between steps: what is kept of each is its own."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth import LOZOM, StaticMaskMeZO, ZOAdam, ZOMomentum
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.engines.base import ENGINES

COMMON: dict[str, Any] = {"seed": 4, "engine": "replay"}


def pair(shape: tuple[int, ...] = (6, 4)) -> tuple[nn.Parameter, nn.Parameter]:
    """Return two tensors of this shape."""
    drawn = torch.Generator().manual_seed(2)
    one, other = (nn.Parameter(torch.randn(shape, generator=drawn)) for _ in range(2))
    return one, other


def loss_of(*params: nn.Parameter) -> Callable[[], Tensor]:
    return lambda: torch.stack([(param - 0.3).square().mean() for param in params]).sum()


def train(optimizer: Any, closure: Callable[[], Any], steps: int) -> None:
    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_masked_tensor_that_is_unfrozen_moves_where_its_mask_says(engine: str) -> None:
    a, b = pair()
    every, some = torch.ones(6, 4, dtype=torch.bool), torch.arange(24).view(6, 4) % 3 == 0
    masks = {"a": every, "b": some}
    optimizer = StaticMaskMeZO([("a", a), ("b", b)], lr=1e-2, masks=masks, **COMMON | {"engine": engine})
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 2)
    optimizer.finalize()
    before = b.detach().clone()
    b.requires_grad_(True)
    train(optimizer, loss_of(a, b), 2)
    optimizer.finalize()
    assert torch.equal(b != before, some)


@pytest.mark.parametrize("how", ["added", "unfrozen"])
def test_a_fraction_draws_masks_for_tensors_that_come_later_as_for_the_others(how: str) -> None:
    a, b = pair((40, 10))
    first = StaticMaskMeZO([("a", a), ("b", b)], lr=1e-2, masks=0.3, **COMMON)
    b.requires_grad_(how == "added")
    optimizer = StaticMaskMeZO([("a", a), *([("b", b)] if how == "unfrozen" else [])], lr=1e-2, masks=0.3, **COMMON)
    train(optimizer, loss_of(a), 1)
    if how == "added":
        optimizer.add_param_group({"params": [("b", b)]})
    b.requires_grad_(True)
    before = b.detach().clone()
    train(optimizer, loss_of(a, b), 1)
    assert 80 < int((b != before).sum()) < 160
    assert {name: mask.tolist() for name, mask in optimizer.shared["masks"].items()} == {
        name: mask.tolist() for name, mask in first.shared["masks"].items()
    }


def test_a_state_of_a_static_mask_that_notes_no_fraction_leaves_late_tensors_alone() -> None:
    a, b = pair()
    optimizer = StaticMaskMeZO([("a", a)], lr=1e-2, masks=0.5, **COMMON)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    del saved["param_groups"][0]["fraction"]  # As versions saved it that drew masks at the beginning only.
    optimizer.load_state_dict(saved)
    optimizer.add_param_group({"params": [("b", b)]})
    before = a.detach().clone(), b.detach().clone()
    train(optimizer, loss_of(a, b), 1)
    assert not torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    assert "fraction" not in saved["param_groups"][0]


RECOMPUTED: dict[str, Callable[..., ZerothOrder]] = {"momentum": ZOMomentum, "adam": ZOAdam}


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("case", RECOMPUTED)
def test_moments_are_not_recomputed_for_tensors_that_had_no_part_in_the_past(case: str, resumed: bool) -> None:
    a, b = pair()
    b.requires_grad_(False)

    def make() -> ZerothOrder:
        return RECOMPUTED[case]([("a", a), ("b", b)], lr=0.1, moments=30, **COMMON)

    optimizer = make()
    train(optimizer, loss_of(a, b), 3)
    if resumed:
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
        optimizer = make()
        optimizer.load_state_dict(saved)
    b.requires_grad_(True)
    before = a.detach().clone(), b.detach().clone()
    with pytest.raises(OptimizerError, match=r"b had no part in the past, of which moments are .*moments='stored'"):
        optimizer.step(lambda: 1.0)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 1)
    assert not torch.equal(a, before[0])


def test_a_tensor_that_was_frozen_for_a_step_has_no_part_in_the_past_either() -> None:
    a, b = pair()
    optimizer = ZOMomentum([("a", a), ("b", b)], lr=0.1, moments=30, nonfinite="skip", **COMMON)
    train(optimizer, loss_of(a, b), 2)
    b.requires_grad_(False)
    train(optimizer, lambda: math.nan, 1)
    b.requires_grad_(True)
    train(optimizer, loss_of(a, b), 1)  # A step that was skipped is not of the past.
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 1)
    b.requires_grad_(True)
    with pytest.raises(OptimizerError, match="ZOMomentum: b had no part in the past"):
        optimizer.step(loss_of(a, b))


def test_a_past_that_does_not_say_whose_it_is_is_taken_for_that_of_all() -> None:
    a, b = pair()
    optimizer = ZOMomentum([("a", a), ("b", b)], lr=0.1, moments=30, **COMMON)
    train(optimizer, loss_of(a, b), 2)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    del saved["param_groups"][0]["past_of"]  # As earlier versions saved it.
    optimizer.load_state_dict(saved)
    train(optimizer, loss_of(a, b), 1)
    assert optimizer.shared["past_of"] == ["a", "b"]


@pytest.mark.parametrize("engine", ["replay", {"kind": "paired", "defer": True}], ids=str)
@pytest.mark.parametrize("resumed", ["no", "yes", "from an earlier version"])
def test_a_tensor_frozen_for_long_has_moments_of_the_steps_it_was_trained_in(resumed: str, engine: Any) -> None:
    """The first step moves every weight by lr; the second, of the same slopes, would too, whenever it comes."""
    a, b = pair()

    def make() -> ZOAdam:
        return ZOAdam([("a", a), ("b", b)], lr=1e-2, floor=1e-12, **COMMON | {"engine": engine})

    optimizer = make()
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 2)
    b.requires_grad_(True)
    train(optimizer, loss_of(a, b), 1)
    optimizer.finalize()
    first = {name: value.clone() for name, value in optimizer.state[b].items() if isinstance(value, Tensor)}
    if resumed != "no":
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
        if resumed == "from an earlier version":  # Which counted all steps, and noted those before a tensor came.
            saved["param_groups"][0]["updates"] = 3
            assert saved["state"][0].pop("count") == 3
            assert saved["state"][1].pop("count") == 1
            saved["state"][1]["before"] = 2
        optimizer = make()
        optimizer.load_state_dict(saved)
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 40)
    b.requires_grad_(True)
    optimizer.finalize()
    before = b.detach().clone()
    optimizer.step(lambda: 1.0)  # A slope of 0.
    optimizer.finalize()
    mean, square = 0.9 * first["exp_avg"] / (1 - 0.9**2), 0.999 * first["exp_avg_sq"] / (1 - 0.999**2)
    torch.testing.assert_close(b.detach(), before - 1e-2 * mean / square.sqrt(), rtol=0, atol=1e-6)
    assert [optimizer.state[param]["count"] for param in (a, b)] == [44, 2]


@pytest.mark.parametrize("resumed", ["no", "yes", "from an earlier version"])
def test_the_momentum_of_a_matrix_is_read_in_the_basis_that_it_was_left_in(resumed: str) -> None:
    a, b = pair()

    def make() -> LOZOM:
        return LOZOM([("a", a), ("b", b)], lr=1e-2, rank=2, period=2, momentum=0.5, divide_by_rank=False, **COMMON)

    optimizer = make()
    train(optimizer, loss_of(a, b), 2)
    left = optimizer.state[b]["momentum"].clone()
    if resumed != "no":
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
        if resumed == "from an earlier version":  # Which noted one basis for all tensors.
            saved["param_groups"][0]["momentum_basis"] = 0
            assert [state.pop("basis") for state in saved["state"].values()] == [0, 0]
        optimizer = make()
        optimizer.load_state_dict(saved)
    b.requires_grad_(False)
    train(optimizer, loss_of(a, b), 5)
    b.requires_grad_(True)
    before = b.detach().clone()
    optimizer.step(lambda: 1.0)  # A slope of 0.
    tensor = optimizer.engine.tensors[1]
    old, new = (optimizer.family(number).right(tensor, 0).clone() for number in (0, 3))
    wanted = 0.5 * left @ (old.T @ new / 4)
    torch.testing.assert_close(optimizer.state[b]["momentum"], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(b.detach(), before - 1e-2 * wanted @ new.T, rtol=0, atol=1e-6)
    assert [optimizer.state[param]["basis"] for param in (a, b)] == [3, 3]
