"""Optimizers and engines on a device that refuses tensors of the main memory: weights are those on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devices import simulated
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines import audit
from shoestring.zeroth.engines.base import ENGINES

# Forward-mode derivatives do not go through tensors of a class of their own.
NAMES = [name for name in OPTIMIZERS.names() if name != "forward-gradient"]
SETTINGS: dict[str, dict[str, Any]] = {
    "evolution": {"samples": 2},
    "fzoo": {"samples": 2},
    "one-point": {"eps": 0.3},
    "static-mask": {"masks": 0.9},
    "subzero": {"rank": 2},
}
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 6)
        self.norm = nn.RMSNorm(6)
        self.head = nn.Linear(6, 10, bias=False)
        drawn = torch.Generator().manual_seed(1)
        for param in self.parameters():
            param.data = torch.randn(param.shape, generator=drawn)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(ids)))


@pytest.fixture(autouse=True)
def spans_of_held_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines look for reads of trained memory by its address, which a simulated tensor has none of."""
    span = audit._span
    monkeypatch.setattr(audit, "_span", lambda one: span(getattr(one.data, "held", one)))


def trained(name: str, engine: str, ids: Tensor, *, there: bool) -> tuple[list[Tensor], Any]:
    model = Network()
    if there:
        simulated.put(model)

    def losses(batch: dict[str, Tensor]) -> Tensor:
        logits, ids = model(batch["ids"]), batch["ids"]
        found = nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return found.view(ids.shape).mean(1)

    settings = {"lr": 1e-3, "weight_decay": 0.1, "seed": 3, "engine": engine} | SETTINGS.get(name, {})
    optimizer = OPTIMIZERS.get(name)(model.named_parameters(), **settings)
    for _ in range(2):
        optimizer.step(PerExample(losses, [{"ids": ids}]))
    optimizer.finalize()
    assert optimizer.engine.instead is None
    state = [value for kept in optimizer.state.values() for value in kept.values() if isinstance(value, Tensor)]
    assert all(value.device == model.head.weight.device for value in state)
    return [getattr(param.data, "held", param.data) for param in model.parameters()], optimizer


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, "paired") for name in NAMES),
        *((name, engine) for name in ("mezo", "lozo") for engine in ENGINES.names()),
    ],
)
def test_weights_on_another_device_are_those_on_the_cpu(name: str, engine: str) -> None:
    expected, _ = trained(name, engine, IDS, there=False)
    with simulated.running() as device:
        found, _ = trained(name, engine, IDS.to(device), there=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_device_refuses_tensors_of_the_main_memory() -> None:
    with simulated.running() as device:
        there = torch.ones(3, device=device)
        with pytest.raises(RuntimeError, match="is in the main memory, others on the device"):
            torch.add(there, torch.ones(3))
        assert (there + torch.ones(3, device=device)).tolist() == [2.0, 2.0, 2.0]
        assert (there * 2).cpu().device.type == "cpu"
