"""Optimizers that train some weights only: the others keep their bits; masks survive a resume."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth import MeZO, SparseMeZO, StaticMaskMeZO, ZOSign
from shoestring.zeroth.directions.dense import gaussian
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.masks import Bits, at_random, largest, pack_bits, squared_gradients
from shoestring.zeroth.optimizers.sparse import threshold


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    model = nn.utils.skip_init(nn.Linear, 20, 10)
    assert isinstance(model, nn.Linear)
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=torch.Generator().manual_seed(param.ndim)).to(dtype)
    return model


def loss_of(model: nn.Module) -> Callable[[], Tensor]:
    return lambda: torch.stack([param.float().sin().square().mean() for param in model.parameters()]).sum()


def masks_of(model: nn.Module, share: float = 0.2) -> dict[str, Tensor]:
    return at_random(dict(model.named_parameters()), share, 3)


@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["static", "sparse", "directions", "sign"])
def test_weights_that_are_not_chosen_are_bit_identical_after_training(
    case: str, dtype: torch.dtype, engine: str
) -> None:
    model = linear(dtype)
    masks, named = masks_of(model), list(model.named_parameters())
    common: Any = {"lr": 1e-3, "weight_decay": 0.5, "engine": engine, "seed": 1}
    bits = Masked(gaussian(), {name: Bits(pack_bits(mask.view(-1))) for name, mask in masks.items()})
    if case == "static":
        optimizer = StaticMaskMeZO(named, masks=masks, **common)
    elif case == "sparse":
        optimizer = SparseMeZO(named, sparsity=0.7, **common)
        masks = {name: param.abs() <= threshold(param, 0.3) for name, param in named}
    else:
        kind: Any = MeZO if case == "directions" else ZOSign
        optimizer = kind(named, directions=bits, **({"of": "estimate"} if case == "sign" else {}), **common)
    before = {name: param.detach().clone() for name, param in named}
    for _ in range(10):
        optimizer.step(loss_of(model))
    optimizer.finalize()
    for name, param in named:
        assert torch.equal(param[~masks[name]], before[name][~masks[name]])
        assert not torch.equal(param[masks[name]], before[name][masks[name]])


def test_a_tensor_without_a_mask_is_left_alone_weight_decay_included() -> None:
    model = linear()
    before = model.bias.detach().clone()
    mask = {"weight": torch.ones(10, 20, dtype=torch.bool)}
    optimizer = StaticMaskMeZO(model.named_parameters(), lr=1e-2, masks=mask, weight_decay=0.5, engine="replay")
    for _ in range(3):
        optimizer.step(loss_of(model))
    assert torch.equal(model.bias.detach(), before)


def test_masks_given_by_hand_travel_with_the_state() -> None:
    one, other = linear(), linear()
    masks = masks_of(one)
    first = StaticMaskMeZO(one.named_parameters(), lr=1e-2, masks=masks, engine="replay")
    first.step(loss_of(one))
    second = StaticMaskMeZO(other.named_parameters(), lr=1e-2, masks=0.9, engine="replay")
    second.step(lambda: 1.0)  # Builds its own masks, which must not outlive the load.
    other.load_state_dict(one.state_dict())
    second.load_state_dict(first.state_dict())
    for model, optimizer in ((one, first), (other, second)):
        for _ in range(3):
            optimizer.step(loss_of(model))
    assert torch.equal(one.weight, other.weight)


def test_parameters_added_later_are_left_alone_by_masks_given_by_hand() -> None:
    model, late = linear(), nn.Parameter(torch.ones(3))
    optimizer = StaticMaskMeZO(model.named_parameters(), lr=1e-2, masks=masks_of(model), engine="replay")
    optimizer.step(loss_of(model))
    optimizer.add_param_group({"params": [("late", late)], "weight_decay": 0.5})
    optimizer.step(lambda: loss_of(model)() + late.sum())
    assert torch.equal(late.detach(), torch.ones(3))


def test_the_mask_of_small_weights_is_made_anew_from_the_weights_of_each_step() -> None:
    """A weight that has grown past its threshold is chosen no more."""
    theta = nn.Parameter(torch.tensor([0.1, 0.2, 5.0, 6.0], dtype=torch.float64))
    optimizer = SparseMeZO([("w", theta)], lr=1.0, sparsity=0.5, engine="replay")
    optimizer.step(lambda: -theta[0] * 50)
    assert optimizer.shared["thresholds"] == {"w": 0.2}
    grown = theta.detach().clone()
    chosen = grown.abs() <= 0.2
    assert grown[2:].tolist() == [5.0, 6.0]
    assert not chosen.all()
    optimizer.step(lambda: theta.sum())
    torch.testing.assert_close(theta.detach()[~chosen], grown[~chosen], rtol=0, atol=0)


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 2.0), (0.0, 1.0), (1.0, 4.0), (0.3, 1.0)])
def test_a_threshold_is_the_quantile_of_the_magnitudes(share: float, wanted: float) -> None:
    assert threshold(torch.tensor([[4.0, -1.0], [2.0, -3.0]]), share) == wanted


def test_the_largest_are_chosen_over_all_tensors_together_and_ties_in_order() -> None:
    values = {"a": torch.tensor([[1.0, 5.0], [3.0, 3.0]]), "b": torch.tensor([3.0, 9.0])}
    found = largest(values, 0.5)
    assert found["a"].tolist() == [[False, True], [True, False]]
    assert found["b"].tolist() == [False, True]
    assert all(mask.all() for mask in largest(values, 1.0).values())
    assert sum(int(mask.sum()) for mask in largest(values, 1e-9).values()) == 1


def test_squared_gradients_are_summed_over_batches_and_leave_no_trace() -> None:
    theta = nn.Parameter(torch.tensor([1.0, 2.0]))
    unused = nn.Parameter(torch.ones(2))
    closures = [lambda: (theta**2).sum(), lambda: 3 * theta[0]]
    found = squared_gradients({"w": theta, "unused": unused}, closures)
    assert found["w"].tolist() == [4.0 + 9.0, 16.0]
    assert found["unused"].tolist() == [0.0, 0.0]
    assert theta.grad is None


def test_squared_gradients_of_a_loss_without_any_are_refused() -> None:
    with pytest.raises(OptimizerError, match="the closure's loss has none: it is a number, detached"):
        squared_gradients({"w": nn.Parameter(torch.ones(2))}, [lambda: 1.0])


def test_random_masks_have_the_share_asked_for_and_come_from_the_seed() -> None:
    params = {"a": torch.zeros(100, 50), "b": torch.zeros(5000)}
    one, again, other = (at_random(params, 0.1, seed) for seed in (1, 1, 2))
    assert torch.equal(one["a"], again["a"])
    assert not torch.equal(one["a"], other["a"])
    assert not torch.equal(one["a"].view(-1), one["b"])
    count = sum(int(mask.sum()) for mask in one.values())
    assert abs(count - 1000) < 4 * math.sqrt(10_000 * 0.09)


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": (
        {"wieght": torch.ones(10, 20, dtype=torch.bool)},
        "mask for wieght, but no such tensor.*: weight, bias",
    ),
    "shape": ({"bias": torch.ones(3, dtype=torch.bool)}, r"mask of bias is torch.bool of shape \[3\].*shape \[10\]"),
    "dtype": ({"bias": torch.ones(10)}, "mask of bias is torch.float32"),
    "nothing": ({"bias": torch.zeros(10, dtype=torch.bool)}, "the masks choose no weight at all"),
    "share": (1.5, r"fraction=1\.5 of the weights; it must be a number above 0 and at most 1"),
    "no share": (0.0, r"fraction=0\.0 of the weights"),
    "text": ("a", "StaticMaskMeZO: masks='a'; give boolean tensors by name, or the share of the weights"),
    "none": (None, "StaticMaskMeZO: masks=None; give boolean tensors by name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_masks_that_cannot_be_are_refused(case: str) -> None:
    masks, message = REFUSED[case]
    with pytest.raises(OptimizerError, match=message):
        StaticMaskMeZO(linear().named_parameters(), masks=masks)


def test_a_sparsity_that_is_no_number_is_refused() -> None:
    value: Any = ".5"
    with pytest.raises(OptimizerError, match=r"SparseMeZO: sparsity='\.5'; it must be a number"):
        SparseMeZO(linear().named_parameters(), sparsity=value)


def test_a_fraction_that_is_no_number_is_refused() -> None:
    values: Any = ({"w": torch.ones(3)}, "0.5")
    with pytest.raises(OptimizerError, match=r"fraction='0\.5' of the weights; it must be a number above 0"):
        largest(*values)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, math.nan])
def test_a_sparsity_that_cannot_be_is_refused(sparsity: float) -> None:
    with pytest.raises(OptimizerError, match=f"SparseMeZO: sparsity={sparsity!r}; it must be at least 0 and below 1"):
        SparseMeZO(linear().named_parameters(), sparsity=sparsity)


ALIKE: dict[str, Tensor] = {
    "zeros": torch.zeros(5, 4),
    "ones": torch.ones(20),
    "minus ones, mostly": torch.tensor([-1.0] * 6 + [0.5, 2.0, 3.0, 4.0]),
    "zeros, a third": torch.tensor([0.0, 0.0, 1.0, 2.0, -3.0, 4.0]),
}


@pytest.mark.parametrize("case", ALIKE)
def test_tensors_whose_magnitudes_do_not_tell_weights_apart_are_trained_whole(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    alike, other = nn.Parameter(ALIKE[case].clone()), nn.Parameter(torch.arange(1.0, 13.0).view(4, 3))
    optimizer = SparseMeZO([("alike", alike), ("other", other)], lr=1e-2, engine="replay")
    for _ in range(4):
        before = alike.detach().clone(), other.detach().clone()
        with caplog.at_level(logging.INFO):
            optimizer.step(lambda: (alike - 0.3).square().sum() + other.sum())
        assert bool((alike != before[0]).all())
        assert int((other != before[1]).sum()) <= 3
    (said,) = [record.getMessage() for record in caplog.records if "Sparse-MeZO" in record.getMessage()]
    assert "1 of 2 tensors whole" in said
    assert "alike" in said


def test_a_tensor_that_is_trained_whole_stays_so_through_a_resume() -> None:
    ends, grown = [], torch.linspace(-1, 1, 6).view(2, 3)
    for resume in (False, True):
        up, down = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(grown.clone())
        optimizer = SparseMeZO([("up", up), ("down", down)], lr=1e-2, engine="replay", seed=4)
        for step in range(6):
            if resume and step == 3:
                saved = pickle.dumps(optimizer.state_dict())
                optimizer = SparseMeZO([("up", up), ("down", down)], engine="replay")
                optimizer.load_state_dict(pickle.loads(saved))
            optimizer.step(lambda up=up, down=down: (up @ down - 1).square().sum())
        ends.append((up.detach().clone(), down.detach().clone()))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_a_state_with_a_threshold_of_0_goes_on_as_it_did() -> None:
    theta = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    optimizer = SparseMeZO([("w", theta)], lr=1e-2, engine="replay")
    state = optimizer.state_dict()
    state["param_groups"][0]["thresholds"] = {"w": 0.0}  # As versions saved it that trained no tensor whole.
    optimizer.load_state_dict(state)
    optimizer.step(lambda: theta.sum())
    assert theta.tolist()[3] == 1.0
    assert optimizer.shared["thresholds"] == {"w": 0.0}
