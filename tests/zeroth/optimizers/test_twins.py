"""Every estimator takes the steps of its equations written out: tests/reference/zeroth_twin.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference.zeroth_twin import STEPS, Space
from shoestring.zeroth.base import OPTIMIZERS

MASKS = {
    "embed.weight": torch.arange(24).view(6, 4) % 3 == 0,
    "layers.0.weight": torch.arange(16).view(4, 4) > 13,
    "layers.0.bias": torch.zeros(4, dtype=torch.bool),
    "layers.1.weight": torch.ones(4, 4, dtype=torch.bool),
    "layers.1.bias": torch.arange(4) == 2,
    "norm.weight": torch.zeros(4, dtype=torch.bool),
    "head.weight": torch.arange(12).view(3, 4) < 5,
}
# Name, settings, forward passes of each step.
CASES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "mezo": ("mezo", {}, [2] * 4),
    "mezo, one-sided": ("mezo", {"sides": 1, "samples": 3}, [4] * 4),
    "mezo, sum": ("mezo", {"samples": 3, "scale_lr": True}, [6] * 4),
    "mezo, growing": ("mezo", {"samples": 4, "grow_over": 3}, [2, 2, 4, 8]),
    "mezo, rademacher": ("mezo", {"directions": "rademacher", "samples": 2}, [4] * 4),
    "one-point": ("one-point", {"eps": 1e-2}, [1] * 4),
    "variance-modified": ("variance-modified-mezo", {"samples": 2}, [4] * 4),
    "variance-modified, gradients": (
        "variance-modified-mezo",
        {"norms": "gradients", "recompute_every": 2},
        [3, 2] * 2,
    ),
    "variance-modified, zeroth": ("variance-modified-mezo", {"norms": "zeroth-order"}, [12, 2, 2, 2]),
    "expectation-modified": ("expectation-modified-mezo", {"recompute_every": 1}, [2] * 4),
    "expectation-modified, gradients": ("expectation-modified-mezo", {"norms": "gradients"}, [3, 2, 2, 2]),
    "expectation-modified, zeroth": (
        "expectation-modified-mezo",
        {"norms": "zeroth-order", "recompute_every": 3, "lr": 1e-4},
        [12, 2, 2, 12],
    ),
    "layer-wise": ("layer-wise-mezo", {"samples": 2}, [20] * 4),
    "sign": ("zo-sign", {"samples": 3}, [6] * 4),
    "sign of the estimate": ("zo-sign", {"samples": 2, "of": "estimate"}, [4] * 4),
    "conservative": ("zo-conservative", {}, [5] * 4),
    "conservative, one-sided": ("zo-conservative", {"sides": 1}, [4] * 4),
    "fzoo": ("fzoo", {"samples": 4}, [5] * 4),
    "1.5-spsa": ("1.5-spsa", {"samples": 2}, [5] * 4),
    "meazo": ("meazo", {"samples": 2, "beta": 0.9}, [4] * 4),
    "evolution": ("evolution", {"samples": 5}, [5] * 4),
    "evolution, antithetic ranks": ("evolution", {"samples": 3, "antithetic": True, "shape": "rank"}, [6] * 4),
    "evolution, antithetic": ("evolution", {"samples": 3, "antithetic": True}, [6] * 4),
    "sparse": ("sparse-mezo", {"samples": 2, "sparsity": 0.6}, [4] * 4),
    "static mask": ("static-mask", {"masks": MASKS, "samples": 2}, [4] * 4),
    "forward gradient": ("forward-gradient", {"samples": 2}, [2] * 4),
}


class Tiny(nn.Module):
    """Embeddings, two numbered layers, a norm and a head: five layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4, bias=False)
        self.head = nn.Linear(4, 3, bias=False)
        drawn = torch.Generator().manual_seed(0)
        for param in self.parameters():
            param.data = torch.randn(param.shape, generator=drawn, dtype=torch.float64) * 0.7

    def forward(self) -> Tensor:
        x = self.embed(torch.tensor([[0, 3, 2], [5, 1, 1]]))
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return nn.functional.cross_entropy(self.head(self.norm(x)).mean(1), torch.tensor([2, 0]))


def groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    return [{"params": named[::2]}, {"params": named[1::2], "lr": lr / 3, "weight_decay": 0.0}]


def build(case: str) -> tuple[Any, Callable[[], Tensor], Space]:
    name, own, _ = CASES[case]
    ours, twin = Tiny(), Tiny()
    settings = {"lr": 1e-2, "weight_decay": 0.3, "seed": 11, "engine": "replay", **own}
    kind = OPTIMIZERS.get(name)
    return (
        kind(groups(ours, settings["lr"]), **settings),
        ours,
        Space(kind(groups(twin, settings["lr"]), **settings), twin),
    )


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_equations_written_out(case: str) -> None:
    name, own, passes = CASES[case]
    optimizer, loss, space = build(case)
    start, memory = space.theta.clone(), {}
    given = {"eps": optimizer.shared.get("eps")} | own
    for number in range(4):
        found = float(optimizer.step(loss))
        wanted = STEPS[name](space, number, memory, **given)
        assert found == pytest.approx(wanted, rel=1e-6)
        assert optimizer.last_passes == passes[number]
    moved = Space(optimizer, loss).theta
    # Losses are equal but for their last digits, which a slope multiplies by 1 / eps.
    torch.testing.assert_close(moved, space.theta, rtol=0, atol=1e-9)
    assert float((moved - start).abs().max()) > 1e-5
