"""Half precision: evaluating does not wear weights down, and updates smaller than their last place reach them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from shoestring.errors import OptimizerError
from shoestring.zeroth import MeZO
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.residual import join, split
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.trajectory import Recorder, replay

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
half = pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)


class Ones(Directions):
    """Every direction is ones: what is meant by an update is known exactly."""

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        out.fill_(1.0)


# Steps of no length


def half_model(dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    stream = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2, bias=False))
    for param in model.parameters():
        param.data = (0.02 * torch.randn(param.shape, generator=stream)).to(dtype)
    return model.eval(), torch.arange(4).view(2, 2)


@half
def test_two_thousand_steps_of_no_length_leave_every_weight_as_it_was(dtype: torch.dtype) -> None:
    """methods.md 2: moving to and fro, bfloat16 weights are 17 % off after 2,000 such steps."""
    stream = torch.Generator().manual_seed(0)
    tensors = {name: nn.Parameter((0.02 * torch.randn(7, 5, generator=stream)).to(dtype)) for name in "ab"}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    optimizer = MeZO(tensors.items(), lr=0.0, eps=1e-3, engine="paired", seed=1)
    losses = [float(optimizer.step(lambda: (tensors["a"] * tensors["b"]).float().square().sum())) for _ in range(2000)]
    assert len(set(losses)) > 100
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert optimizer.engine.instead is None


@half
@pytest.mark.parametrize("together", [True, False], ids=["all points in one pass", "one by one"])
def test_steps_of_no_length_leave_a_model_as_it_was(together: bool, dtype: torch.dtype) -> None:
    model, tokens = half_model(dtype)
    before = tiny.weights(model)
    closure = PerExample(lambda batch: model(batch["x"]).float().square().mean((1, 2)), [{"x": tokens}])
    optimizer = MeZO(model.named_parameters(), lr=0.0, eps=1e-3, engine="paired", directions="rademacher")
    for _ in range(20):
        optimizer.step(closure if together else (lambda: closure()))
    assert tiny.equal(before, tiny.weights(model))
    assert optimizer.engine.instead is None


@half
@pytest.mark.parametrize("engine", ["replay", "fused"])
def test_moving_to_and_fro_wears_weights_down(engine: str, dtype: torch.dtype) -> None:
    model, tokens = half_model(dtype)
    before = tiny.weights(model)
    optimizer = MeZO(model.named_parameters(), lr=0.0, eps=1e-3, engine=engine, directions="rademacher")
    for _ in range(20):
        optimizer.step(lambda: model(tokens).float().square().mean())
    optimizer.finalize()
    assert not tiny.equal(before, tiny.weights(model))


# Many tiny updates


def many_updates(dtype: torch.dtype, rounding: Any, steps: int, size: float) -> Tensor:
    """Return 4,096 weights that began at 1 after `steps` updates of `size` each, as float64.

    The slope is -1 along ones, so every weight is meant to grow by `size` a step. `size` is a small part of the
    distance between neighbours at 1.
    """
    theta = nn.Parameter(torch.ones(4096, dtype=dtype))
    optimizer = MeZO([theta], lr=size, eps=0.5, rounding=rounding, directions=Ones(), seed=4)
    for _ in range(steps):
        losses = iter([-0.5, 0.5])
        optimizer.step(lambda losses=losses: next(losses))
    return theta.detach().double()


@half
def test_updates_below_half_a_unit_are_lost_by_rounding_to_the_nearest(dtype: torch.dtype) -> None:
    unit = torch.finfo(dtype).eps
    assert torch.equal(many_updates(dtype, "nearest", 100, unit / 50), torch.ones(4096, dtype=torch.float64))


@half
@pytest.mark.parametrize("rounding", ["stochastic", "auto"])
def test_the_mean_of_many_tiny_updates_reaches_the_weights_by_stochastic_rounding(
    dtype: torch.dtype, rounding: str
) -> None:
    unit, steps, share = torch.finfo(dtype).eps, 100, 1 / 50
    found = many_updates(dtype, rounding, steps, unit * share)
    # Each step moves a weight by a whole unit with probability `share`.
    error = unit * math.sqrt(steps * share * (1 - share) / len(found))
    assert abs(float(found.mean()) - (1 + steps * share * unit)) < 4 * error
    assert float(found.std()) == pytest.approx(unit * math.sqrt(steps * share * (1 - share)), rel=0.1)


@half
def test_a_residual_keeps_tiny_updates_exactly(dtype: torch.dtype) -> None:
    unit = torch.finfo(dtype).eps
    # 1/64 of a unit: sums of it are exact in float32.
    found = [many_updates(dtype, "residual", steps, unit / 64) for steps in (31, 33, 64, 97)]
    assert [float((weights - 1).unique().item() / unit) for weights in found] == [0, 1, 1, 2]


@half
def test_updates_with_a_residual_are_those_of_float32(dtype: torch.dtype) -> None:
    wide = nn.Parameter(torch.linspace(-2, 2, 999).to(dtype).float())
    narrow = nn.Parameter(wide.detach().to(dtype))
    settings: dict[str, Any] = {"lr": 1e-5, "weight_decay": 0.1, "rounding": "residual", "seed": 2}
    one, other = MeZO([wide], **settings), MeZO([narrow], **settings)
    for number in range(200):
        losses = [math.sin(number), math.cos(number)]
        for optimizer in (one, other):
            answers = iter(losses)
            optimizer.engine.losses = lambda *_, answers=answers: [next(answers), next(answers)]  # no drift
            optimizer.step(lambda: 0.0)
    residual = other.state[narrow]["residual"]
    # Below 2^-16 float16's rest is rounded to a multiple of 2^-39 in each step.
    tolerance = 0.0 if dtype is torch.bfloat16 else 200 * 2.0**-40
    torch.testing.assert_close(join(narrow.data, residual), wide.data, rtol=0, atol=tolerance)
    assert not torch.equal(narrow.data.float(), wide.data)
    assert (narrow.data.float() - wide.data).abs().max() <= 2 * torch.finfo(dtype).eps
    assert residual.dtype is torch.int16


def test_float32_weights_have_no_residual() -> None:
    thetas = [nn.Parameter(torch.ones(8)) for _ in range(2)]
    for theta, rounding in zip(thetas, ("residual", "nearest"), strict=True):
        optimizer = MeZO([theta], lr=1e-2, rounding=rounding)
        optimizer.step(lambda theta=theta: theta.square().sum())
        assert optimizer.state_dict()["state"] == {}
    assert torch.equal(*thetas)


# Splitting float32 in two halves

NORMAL = st.floats(-60000, 60000, width=32).filter(lambda value: abs(value) >= 2.0**-16)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def there_and_back(values: list[float], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    whole = torch.tensor(values, dtype=torch.float32)
    weight, residual = torch.empty(len(values), dtype=dtype), torch.empty(len(values), dtype=torch.int16)
    split(whole, weight, residual)
    return whole, weight, join(weight, residual)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_a_bfloat16_weight_and_its_residual_are_a_float32_number(values: list[float]) -> None:
    whole, weight, back = there_and_back(values, torch.bfloat16)
    assert torch.equal(back, whole)
    nearest = whole.to(torch.bfloat16)
    finite = nearest.isfinite() & weight.isfinite()
    distance = (weight.double() - whole.double()).abs()[finite]
    assert torch.equal(distance, (nearest.double() - whole.double()).abs()[finite])


@given(st.lists(NORMAL, min_size=1, max_size=20))
def test_a_float16_weight_and_its_residual_are_a_float32_number(values: list[float]) -> None:
    whole, weight, back = there_and_back(values, torch.float16)
    assert torch.equal(back, whole)
    assert torch.equal(weight, whole.half())


@given(st.lists(st.floats(-(2.0**-14), 2.0**-14, width=32), min_size=1, max_size=20))
def test_what_is_kept_of_the_smallest_float16_numbers_is_within_its_bound(values: list[float]) -> None:
    whole, _, back = there_and_back(values, torch.float16)
    assert (back.double() - whole.double()).abs().max() <= 2.0**-40


def test_weights_that_overflow_do_not_poison_their_residual() -> None:
    _, weight, back = there_and_back([1e6, -1e6, 1.0], torch.float16)
    assert weight.tolist() == back.tolist() == [math.inf, -math.inf, 1.0]


@half
def test_what_is_not_a_number_stays_so_in_a_weight_with_a_residual(dtype: torch.dtype) -> None:
    bits = torch.tensor([0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000], dtype=torch.int64).to(torch.int32)
    weight, residual = torch.ones(4, dtype=dtype), torch.ones(4, dtype=torch.int16)
    split(bits.view(torch.float32), weight, residual)
    assert weight.isnan().all()
    assert not residual.any()


@half
def test_half_way_numbers_go_one_way_and_come_back(dtype: torch.dtype) -> None:
    unit = torch.finfo(dtype).eps
    values = [sign * (1 + (number + 0.5) * unit) for number in range(6) for sign in (1, -1)]
    whole, weight, back = there_and_back(values, dtype)
    assert torch.equal(back, whole)
    assert torch.equal((weight.float() - whole).abs(), torch.full_like(whole, unit / 2))


# Of every optimizer

# Perturbations and steps that bfloat16 shows, where a loss depends on them; what an optimizer cannot be made without.
MORE: dict[str, dict[str, Any]] = {
    "fzoo": {"eps": 1e-2},
    "static-mask": {"masks": 0.5},
    "zo-conservative": {"eps": 1e-2, "lr": 1e-3},
}


@half
@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_residual_survives_a_state_dict(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    def build(theta: nn.Parameter) -> Any:
        settings = {"lr": 1e-6, "rounding": "residual", "seed": 1} | MORE.get(name, {})
        return OPTIMIZERS.get(name)([("theta", theta)], **settings)

    def run(optimizer: Any, theta: nn.Parameter) -> None:
        for _ in range(3):
            optimizer.step(lambda: (theta.float() * torch.arange(24.0).view(6, 4)).square().mean())

    theta = nn.Parameter(torch.linspace(-1, 1, 24).view(6, 4).to(dtype))
    optimizer = build(theta)
    run(optimizer, theta)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = nn.Parameter(theta.detach().clone())
    resumed = build(other)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.state[other]["residual"].dtype is torch.int16
    assert torch.equal(resumed.state[other]["residual"], optimizer.state[theta]["residual"])
    assert int(optimizer.state[theta]["residual"].count_nonzero()) > 0
    run(optimizer, theta)
    run(resumed, other)
    assert torch.equal(theta, other)
    assert torch.equal(resumed.state[other]["residual"], optimizer.state[theta]["residual"])


@half
@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_log_makes_weights_with_a_residual_again(engine: str, dtype: torch.dtype, tmp_path: Path) -> None:
    start = torch.linspace(-1, 1, 50).to(dtype)
    theta, again = nn.Parameter(start.clone()), start.clone()
    optimizer = MeZO([("theta", theta)], lr=1e-5, rounding="residual", engine=engine)
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(5):
            optimizer.step(lambda: theta.float().square().sum())
    replay(tmp_path / "log", {"theta": again})
    assert torch.equal(theta, again)


def test_parts_of_a_tensor_may_come_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> Tensor:
        theta = nn.Parameter(torch.linspace(-1, 1, 50, dtype=torch.bfloat16))
        optimizer = MeZO([theta], lr=1e-3, rounding="residual")
        losses = iter([1.0, 2.0])
        optimizer.step(lambda: next(losses))
        return join(theta.data, optimizer.state[theta]["residual"])

    whole = moved()
    monkeypatch.setattr("shoestring.zeroth.residual._CHUNK", 7)
    assert torch.equal(moved(), whole)


def test_another_rounding_is_refused() -> None:
    message = "MeZO: rounding='up'; allowed: 'auto', 'nearest', 'stochastic', 'residual'"
    with pytest.raises(OptimizerError, match=message):
        MeZO([nn.Parameter(torch.ones(3))], rounding="up")
