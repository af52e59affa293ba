"""Code that reads weights in ways of its own, at points that no module knows of."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.zeroth import MeZO
from shoestring.zeroth.closures import PerExample

pytestmark = pytest.mark.usefixtures("frozen_imports")
H = 6
X = torch.linspace(-1, 1, 3 * H, dtype=torch.float64).view(3, H)


class Weights:
    def __init__(self) -> None:
        stream = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(H, H, generator=stream, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(H, generator=stream, dtype=torch.float64))
        self.view = self.w.t()
        self.part = self.w.data[2:4]
        self.gru = nn.GRU(H, H).double()
        for param in self.gru.parameters():
            param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)
        self.encoder = nn.TransformerEncoderLayer(H, 2, 8, batch_first=True).double().eval()
        for param in self.encoder.parameters():
            param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)

    def named(self) -> list[tuple[str, nn.Parameter]]:
        modules = [*self.gru.named_parameters("gru"), *self.encoder.named_parameters("encoder")]
        return [("w", self.w), ("b", self.b), *modules]


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight * 2


def scripted(x: Tensor, w: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(_product)(x, w)


def _product(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.t()


def under_autocast(own: Weights) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return functional.linear(X.float(), own.w.float(), own.b.float()).double()


@torch.enable_grad()
def penalised(own: Weights) -> Tensor:
    first, second = torch.autograd.grad((X @ own.w + own.b).sin().sum(), [own.w, own.b])
    return first + second


WAYS: dict[str, Callable[[Weights], Tensor]] = {
    "linear": lambda own: functional.linear(X, own.w, own.b),
    "linear by names": lambda own: functional.linear(input=X, weight=own.w, bias=own.b),
    "of a vector": lambda own: functional.linear(X[0], own.w),
    "addmm": lambda own: torch.addmm(own.b, X, own.w),
    "scaled addmm": lambda own: torch.addmm(own.b, X, own.w, beta=0.5, alpha=2.0),
    "matmul with a transpose": lambda own: X @ own.w.T + own.b,
    "some rows": lambda own: functional.linear(X, own.w[torch.tensor([4, 1])]),
    "rows from the end": lambda own: own.w[torch.tensor([-1, 0])] * own.b,
    "index_select": lambda own: torch.index_select(own.w, 0, torch.tensor([3, 3, 1])),
    "index_select of columns": lambda own: own.w.index_select(1, torch.tensor([3, 1])),
    "embedding": lambda own: functional.embedding(torch.tensor([[1, 5], [5, 0]]), own.w),
    "embedding with a norm": lambda own: functional.embedding(torch.tensor([1, 5]), own.w.clone(), max_norm=1.0),
    "slice": lambda own: own.w[1:3, ::2] + own.b[0],
    "norms": lambda own: functional.layer_norm(X, (H,), own.b, own.b) + functional.rms_norm(X, (H,), own.b),
    "data": lambda own: own.w.data * own.b.detach(),
    "in a list": lambda own: torch.cat([own.w, own.b[None]]) + torch.stack([own.b, own.b]).sum(),
    "einsum": lambda own: torch.einsum("nk,ok->no", X, own.w),
    "overloads": lambda own: torch.ops.aten.mm(X, own.w) + torch.ops.aten.add.Tensor(own.b, 1),
    "own function": lambda own: Doubling.apply(own.w),
    "recurrent": lambda own: own.gru(X[:, None])[0],
    "encoder layer": lambda own: own.encoder(X[None]),
    "shapes": lambda own: X[:, : own.b.shape[0]] * own.b.numel() * own.w.size(0) * len(own.w) + own.b.new_ones(H),
    "numpy": lambda own: torch.from_numpy(own.w.detach().numpy()).sin(),
    "vmap": lambda own: torch.vmap(lambda row: (row * own.b).sum())(X),
    "with gradients": lambda own: torch.enable_grad()(lambda: functional.linear(X, own.w, own.b).detach())(),
}
PAST: dict[str, tuple[Callable[[Weights], Tensor], str]] = {
    "an older view": (lambda own: X @ own.view, r"w \(aten\."),
    "an older slice": (lambda own: (X @ own.part.T).sum() + own.b, r"w \(aten\."),
    "scripted code": (lambda own: scripted(X, own.w), r"w \(aten\."),
    "its address": (lambda own: X @ own.w * float(own.w.data_ptr() > 0), r"w \(data_ptr\);"),
    "its gradient": (lambda own: penalised(own), r"w \(torch\.autograd\.grad\);"),
    "writing it": (lambda own: own.w.mul_(1.0) @ X.T, r"w \(mul_\);"),
}


def run(way: Callable[[Weights], Tensor], engine: Any) -> tuple[list[float], list[Tensor], MeZO]:
    own = Weights()
    optimizer = MeZO(own.named(), lr=1e-3, eps=1e-3, seed=4, engine=engine)
    grads = []
    for _ in range(3):
        optimizer.step(lambda: way(own).square().sum())
        grads += optimizer.last_projected_grads
    optimizer.finalize()
    return grads, [param.detach() for _, param in own.named()], optimizer


def test_every_way_of_reading_weights_sees_the_point() -> None:
    """One test: most of its time is building and first calls."""
    for name, way in WAYS.items():
        wanted, moved, _ = run(way, "replay")
        for engine in ("paired", {"kind": "paired", "small": 0, "tile": 7}):
            found, ours, optimizer = run(way, engine)
            assert found == pytest.approx(wanted, rel=1e-8, abs=1e-9), (name, engine)
            for one, other in zip(ours, moved, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)
            assert optimizer.engine.instead is None, name


def test_under_autocast_large_weights_are_cast_as_ever() -> None:
    wanted, _, _ = run(under_autocast, "replay")
    for engine in ("paired", {"kind": "paired", "small": 0, "tile": 7}):
        found, _, _ = run(under_autocast, engine)
        assert found == pytest.approx(wanted, rel=0.05, abs=1.0)


@pytest.mark.parametrize("name", PAST)
def test_what_reads_past_the_tensors_goes_to_the_fused_engine_with_one_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    way, what = PAST[name]
    wanted, moved, _ = run(way, "replay")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found, ours, optimizer = run(way, "paired")
    assert found == pytest.approx(wanted, rel=1e-8, abs=1e-9)
    for one, other in zip(ours, moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert optimizer.engine.instead == "fused"
    messages = [record.getMessage() for record in caplog.records if "memory past" in record.getMessage()]
    assert len(messages) == 1
    assert re.search(what, messages[0]), messages[0]


class Cached(nn.Linear):
    """Multiplies by a view that was made before."""

    def __init__(self, other: nn.Linear | None = None) -> None:
        super().__init__(H, H, bias=False, dtype=torch.float64)
        torch.nn.init.eye_(self.weight)
        self.view = (other or self).weight.data.t()

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.view + self.weight.sum()


class Transposing(nn.Linear):
    """Puts tokens first, so that rows of examples are no longer told apart."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(0, 1)).transpose(0, 1)


def said(layers: nn.Module, closure: Any, caplog: pytest.LogCaptureFixture) -> str:
    optimizer = MeZO(layers.named_parameters(), lr=0.0, eps=1e-3)
    with caplog.at_level(logging.WARNING):
        optimizer.step(closure)
    return "; ".join(record.getMessage() for record in caplog.records)


def test_the_module_that_reads_past_a_tensor_is_named_and_so_is_the_tensors_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = nn.Linear(H, H, bias=False, dtype=torch.float64)
    torch.nn.init.eye_(plain.weight)
    net = nn.Sequential(plain, Cached())
    assert "1.weight (aten.mm.default in Cached '1');" in said(net, lambda: net(X).square().sum(), caplog)
    caplog.clear()
    net = nn.Sequential(plain, Cached(plain))
    wanted = "0.weight (aten.mm.default of Linear '0' in Cached '1');"
    assert wanted in said(net, lambda: net(X).square().sum(), caplog)
    caplog.clear()
    alone = Cached()
    assert "weight (aten.mm.default in Cached);" in said(alone, lambda: alone(X).square().sum(), caplog)


def test_the_module_at_which_a_repeated_batch_stopped_is_named(caplog: pytest.LogCaptureFixture) -> None:
    layer = Transposing(H, H, dtype=torch.float64)
    torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    net = nn.Sequential(nn.Identity(), layer)
    closure = PerExample(lambda batch: net(batch["x"]).square().sum((1, 2)), [{"x": X[:, None].expand(3, 2, H)}])
    wanted = "stopped at linear, of weights and what transpose gives in Transposing '1'; points are"
    assert wanted in said(net, closure, caplog)
