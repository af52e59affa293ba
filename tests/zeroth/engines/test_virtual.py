"""The virtual engine: updates of low rank stay beside the weights until they are folded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

import tiny_forwards
from shoestring.errors import OptimizerError
from shoestring.zeroth import FZOO, LOZO, LOZOM, MeZO, SubZero, ZOAdam
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.engines.virtual import VirtualEngine
from shoestring.zeroth.tensors import Trained

pytestmark = pytest.mark.usefixtures("frozen_imports")
ARCHITECTURES = ("roberta", "bert", "opt", "gpt2", "llama", "qwen3", "t5")
WAYS: dict[str, tuple[type[ZerothOrder], dict[str, Any]]] = {
    "mezo": (MeZO, {"directions": "low-rank"}),
    "mezo, three directions": (MeZO, {"directions": "low-rank", "samples": 3}),
    "mezo, one basis": (MeZO, {"directions": LowRank(2, basis=5)}),
    "mezo, rank 9": (MeZO, {"directions": LowRank(9)}),
    "fzoo": (FZOO, {"directions": "low-rank"}),
    "lozo": (LOZO, {"period": 4}),
    "lozo-m": (LOZOM, {"period": 4}),
    "subzero": (SubZero, {"rank": 2, "period": 3}),
}
# Of these replay rounds the product of factors, z, to float32, where a branch at the side does not.
ROUNDED = {"lozo-m": 1e-6, "subzero": 1e-6}
TILED = {"kind": "virtual", "small": 0, "tile": 100}


def trained(
    way: str, forward: tiny_forwards.Forward, engine: Any, steps: int, closure: str = "per example", **more: Any
) -> tuple[list[float], list[Tensor], ZerothOrder]:
    """Return losses and the weights, all updates applied; the model gets its own back."""
    model, (kind, settings) = forward.model, WAYS[way]
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    common: dict[str, Any] = {"lr": 1e-3, "eps": 1e-3, "seed": 1, "engine": engine, **settings, **more}
    optimizer = kind(model.named_parameters(), **common)
    losses: list[float] = []
    for _ in range(steps):
        optimizer.step(forward.closure(closure))
        losses += optimizer.last_answers
    optimizer.finalize()
    after = [param.detach().clone() for param in model.parameters()]
    for name, param in model.named_parameters():
        param.data.copy_(before[name])
    return losses, after, optimizer


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make factors multiples of 1/8, so that sums of their products are exact in float32."""

    made = LowRank._factor

    def factor(self: LowRank, side: str, tensor: Trained, seed: int) -> Tensor:
        return made(self, side, tensor, seed).mul_(8).round_().div_(8)

    monkeypatch.setattr(LowRank, "_factor", factor)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("closure", ["per example", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_steps_are_those_of_replay(way: str, closure: str) -> None:
    forward = tiny_forwards.forward("roberta")
    wanted, others, _ = trained(way, forward, "replay", 12, closure)
    for engine in ("virtual", TILED, {"kind": "virtual", "columns": 1}):
        losses, weights, _ = trained(way, forward, engine, 12, closure)
        tolerance = ROUNDED.get(way, 1e-10)
        assert losses == pytest.approx(wanted, rel=tolerance)
        torch.testing.assert_close(weights, others, rtol=tolerance, atol=tolerance)


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let norms compute in float64, not in float32, of which the last bit of a float64 may decide the neighbour."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))

    for norm in (LlamaRMSNorm, Qwen3RMSNorm, T5LayerNorm):
        monkeypatch.setattr(norm, "forward", forward)


@pytest.mark.usefixtures("coarse", "exact_norms")
@pytest.mark.parametrize("way", ["mezo", "lozo"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fifty_steps_are_those_of_replay(architecture: str, way: str) -> None:
    forward = tiny_forwards.forward(architecture)
    losses, weights, optimizer = trained(way, forward, "virtual", 50)
    wanted, others, _ = trained(way, forward, "replay", 50)
    assert losses == pytest.approx(wanted, rel=1e-10)
    torch.testing.assert_close(weights, others, rtol=1e-10, atol=1e-10)
    engine = optimizer.engine
    assert isinstance(engine, VirtualEngine)
    assert engine.repeats
    assert engine.instead is None


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(12, 7).to(dtype)


def loss_of(layer: nn.Linear) -> Tensor:
    x = torch.linspace(-1, 1, 36).view(3, 12).to(layer.weight.dtype)
    return layer(x).float().square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_matrix_is_written_until_it_is_folded(dtype: torch.dtype) -> None:
    layer = linear(dtype)
    before = {name: param.detach().clone() for name, param in layer.named_parameters()}
    optimizer = LOZO(layer.named_parameters(), lr=0.05, eps=1e-2, engine="virtual", period=100)
    for _ in range(20):
        optimizer.step(lambda: loss_of(layer))
    assert torch.equal(layer.weight, before["weight"])
    assert not torch.equal(layer.bias, before["bias"])
    optimizer.finalize()
    assert not torch.equal(layer.weight, before["weight"])
    folded = layer.weight.detach().clone()
    optimizer.finalize()
    assert torch.equal(layer.weight, folded)


@pytest.mark.parametrize(("columns", "folds"), [(1, 9), (2, 4), (4, 2), (8, 1), (10, 0)])
def test_updates_are_folded_before_they_have_too_many_columns(columns: int, folds: int) -> None:
    layer = linear()
    optimizer = MeZO(
        layer.named_parameters(), lr=1e-3, directions="low-rank", engine={"kind": "virtual", "columns": columns}
    )
    seen, last = 0, layer.weight.detach().clone()
    for _ in range(10):
        optimizer.step(lambda: loss_of(layer))
        seen += not torch.equal(layer.weight, last)
        last = layer.weight.detach().clone()
    assert seen == folds


def test_updates_in_one_basis_share_its_columns() -> None:
    layer = linear()
    optimizer = LOZO(layer.named_parameters(), lr=1e-3, engine="virtual", rank=3, period=5)
    columns = []
    for _ in range(16):
        optimizer.step(lambda: loss_of(layer))
        engine: Any = optimizer.engine
        columns.append(engine._held.columns_with([]))
    assert columns == [3] * 5 + [6] * 5 + [3] * 5 + [6]


@pytest.mark.parametrize("rounding", ["stochastic", "nearest", "residual"])
def test_a_fold_is_one_rounding_of_the_sum_of_many_updates(rounding: Any) -> None:
    """Many updates of a twentieth of a unit in the last place would be lost to the nearest, one after the other."""
    found, wanted = linear(torch.bfloat16), linear(torch.float64)
    wanted.load_state_dict(linear(torch.bfloat16).state_dict())
    optimizers = []
    for layer, engine in ((found, "virtual"), (wanted, "replay")):
        settings: dict[str, Any] = {"engine": engine, "rounding": rounding, "period": 100, "seed": 4}
        optimizers.append(LOZO(layer.named_parameters(), lr=1e-4, eps=1e-2, **settings))
    for _ in range(60):
        slope = iter([1.01, 1.0] * 2)
        for optimizer in optimizers:
            optimizer.step(lambda slope=slope: torch.tensor(next(slope)))
    for optimizer in optimizers:
        optimizer.finalize()
    moved = (wanted.weight - linear(torch.bfloat16).weight.double()).abs()
    error = (found.weight.double() - wanted.weight).abs()
    unit = torch.exp2(wanted.weight.abs().log2().floor()) * torch.finfo(torch.bfloat16).eps
    assert (moved > unit).any()
    assert (error <= unit * (1.01 if rounding == "stochastic" else 0.51)).all()


def test_what_is_held_moves_the_loss_as_weights_would() -> None:
    layer, other = linear(), linear()
    far: dict[str, Any] = {"lr": 0.02, "eps": 1e-3, "seed": 2, "period": 50}
    virtual = LOZO(layer.named_parameters(), engine="virtual", **far)
    paired = LOZO(other.named_parameters(), engine="paired", **far)
    losses = [
        (float(virtual.step(lambda: loss_of(layer))), float(paired.step(lambda: loss_of(other)))) for _ in range(30)
    ]
    assert losses[-1][0] < 0.9 * losses[0][0]
    torch.testing.assert_close(*map(torch.tensor, zip(*losses, strict=True)), rtol=1e-4, atol=1e-6)


def test_a_group_that_does_not_learn_is_left_alone() -> None:
    model: Any = nn.Sequential(linear(), nn.Tanh(), nn.Linear(7, 2))
    before = model[2].weight.detach().clone()
    groups = [
        {"params": list(model[0].named_parameters())},
        {"params": list(model[2].named_parameters("2")), "lr": 0.0},
    ]
    optimizer = LOZO(groups, lr=0.1, engine="virtual")
    for _ in range(4):
        optimizer.step(lambda: model(torch.ones(2, 12)).square().mean())
    optimizer.finalize()
    assert torch.equal(model[2].weight, before)
    assert not torch.equal(model[0].weight, linear().weight)


REASONS: dict[str, tuple[type[ZerothOrder], dict[str, Any], str]] = {
    "gaussian": (MeZO, {}, "updates without factors"),
    "no sum of directions": (ZOAdam, {"directions": "low-rank"}, "updates without factors"),
    "weight decay": (LOZO, {"weight_decay": 0.1}, "weight decay, which moves every weight"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_kept_beside_weights_is_written_and_said_once(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind, settings, why = REASONS[reason]
    layer, other = linear(torch.float64), linear(torch.float64)
    for one, engine in ((layer, "virtual"), (other, "paired")):
        optimizer = kind(one.named_parameters(), lr=1e-2, seed=3, engine=engine, **settings)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                optimizer.step(lambda one=one: loss_of(one))
    assert caplog.messages == [
        f'engine="virtual" writes every weight at each step: {why}; engine="paired" does no less'
    ]
    assert torch.equal(layer.weight, other.weight)


@pytest.mark.parametrize("then", ["step", "finalize", "load"])
def test_weights_changed_while_updates_are_held_are_refused_and_left_as_they_are(then: str) -> None:
    model: Any = nn.Sequential(linear(), nn.Tanh(), nn.Linear(7, 2))
    optimizer = LOZO(model.named_parameters(), lr=0.1, engine="virtual")

    def closure() -> Tensor:
        return model(torch.ones(2, 12)).square().mean()

    state = optimizer.state_dict()
    optimizer.step(closure)
    model[0].load_state_dict(linear().state_dict())
    before = model[2].weight.detach().clone()
    acts: dict[str, Callable[[], Any]] = {
        "step": lambda: optimizer.step(closure),
        "finalize": optimizer.finalize,
        "load": lambda: optimizer.load_state_dict(state),
    }
    with pytest.raises(
        OptimizerError, match=r"0\.weight changed while .*steps of the virtual engine.*finalize\(\) before"
    ):
        acts[then]()
    assert torch.equal(model[0].weight, linear().weight)
    assert not torch.equal(model[2].weight, before)
    optimizer.step(closure)
    optimizer.finalize()


def test_columns_must_be_a_number_of_at_least_one() -> None:
    with pytest.raises(OptimizerError, match="engine virtual: columns=0; it must be at least 1"):
        LOZO(linear().parameters(), engine={"kind": "virtual", "columns": 0})


def test_a_model_that_hides_its_weights_is_given_to_the_fused_engine_with_every_update() -> None:
    layer, other = linear(torch.float64), linear(torch.float64)
    optimizers = [
        LOZO(one.named_parameters(), lr=0.1, seed=1, engine=name)
        for one, name in ((layer, "virtual"), (other, "replay"))
    ]
    for one, optimizer in zip((layer, other), optimizers, strict=True):
        for _ in range(3):
            optimizer.step(lambda one=one: loss_of(one))
    for one, optimizer in zip((layer, other), optimizers, strict=True):
        view = one.weight.data
        optimizer.engine.doubt()
        for _ in range(2):
            optimizer.step(
                lambda one=one, view=view: functional.linear(torch.ones(1, 12).double(), view, one.bias).square().mean()
            )
        optimizer.finalize()
    assert optimizers[0].engine.instead == "fused"
    torch.testing.assert_close(layer.weight, other.weight, rtol=1e-6, atol=1e-7)
