"""The virtual engine: updates of low rank stay beside the weights until they are folded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_forwards
from shoestring.zeroth import FZOO, LOZO, LOZOM, MeZO, SubZero
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
    optimizer = kind(
        model.named_parameters(), **{"lr": 1e-3, "eps": 1e-3, "seed": 1, "engine": engine, **settings, **more}
    )
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
    for engine in ("virtual", TILED, {"kind": "virtual", "columns": 1}):
        losses, weights, _ = trained(way, forward, engine, 14, closure)
        wanted, others, _ = trained(way, forward, "replay", 14, closure)
        tolerance = ROUNDED.get(way, 1e-10)
        assert losses == pytest.approx(wanted, rel=tolerance)
        torch.testing.assert_close(weights, others, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("way", ["mezo", "lozo"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fifty_steps_are_those_of_replay(architecture: str, way: str) -> None:
    forward = tiny_forwards.forward(architecture)
    losses, weights, optimizer = trained(way, forward, "virtual", 50)
    wanted, others, _ = trained(way, forward, "replay", 50)
    assert losses == pytest.approx(wanted, rel=1e-10)
    torch.testing.assert_close(weights, others, rtol=1e-10, atol=1e-10)
    assert isinstance(optimizer.engine, VirtualEngine)
    assert optimizer.engine.repeats
    assert optimizer.engine.instead is None
