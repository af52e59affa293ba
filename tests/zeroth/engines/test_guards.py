from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny_forwards
from shoestring.bench.peaks import peak_of
from shoestring.errors import OptimizerError
from shoestring.zeroth import MeZO
from shoestring.zeroth.closures import PerExample

pytestmark = pytest.mark.usefixtures("frozen_imports")
ENGINES = ("replay", "fused", "paired", "virtual")


def linear() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(4, 4)


def attention(x: Tensor, share: float) -> Tensor:
    return functional.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=share)[0]


RANDOM: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "dropout": (lambda x: functional.dropout(x, 0.1), "dropout with p=0.1"),
    "dropout module": (nn.Dropout(0.2), "dropout with p=0.2"),
    "torch.dropout": (lambda x: torch.dropout(x, 0.3, train=True), "dropout with p=0.3"),
    "dropout, default p": (lambda x: functional.dropout(x), "dropout with p=0.5"),
    "alpha dropout": (nn.AlphaDropout(0.2), "dropout with p=0.2"),
    "attention": (lambda x: attention(x, 0.1), "attention with dropout_p=0.1"),
    "batch norm": (nn.BatchNorm1d(4), "batch_norm in training mode"),
}
HARMLESS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout in eval mode": nn.Dropout(0.2).eval(),
    "dropout of nothing": nn.Dropout(0.0),
    "attention without": lambda x: attention(x, 0.0),
    "batch norm in eval mode": nn.BatchNorm1d(4).eval(),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RANDOM)
def test_randomness_in_a_forward_pass_is_refused_with_the_remedy(
    name: str, engine: str, global_random_states: None
) -> None:
    function, what = RANDOM[name]
    layer = linear()
    before = layer.weight.detach().clone()
    optimizer = MeZO(layer.parameters(), engine=engine)
    with pytest.raises(OptimizerError, match=rf"uses {what}: .*; call model.eval\(\) before the step"):
        optimizer.step(lambda: function(layer(torch.ones(3, 4))).mean())
    torch.testing.assert_close(layer.weight.data, before)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_random_passes(name: str, engine: str) -> None:
    layer = linear()
    MeZO(layer.parameters(), engine=engine).step(lambda: HARMLESS[name](layer(torch.ones(3, 4))).mean())


def test_the_paired_engine_looks_at_every_step() -> None:
    layer, dropout = linear(), nn.Dropout(0.5).eval()
    optimizer = MeZO(layer.parameters())
    optimizer.step(lambda: dropout(layer(torch.ones(3, 4))).mean())
    dropout.train()
    with pytest.raises(OptimizerError, match="dropout"):
        optimizer.step(lambda: dropout(layer(torch.ones(3, 4))).mean())


@pytest.mark.parametrize("engine", ENGINES)
def test_tensors_that_are_never_read_are_named_once(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.ModuleDict({"used": linear(), "unused": linear()})
    optimizer = MeZO(model.named_parameters(), directions="low-rank", engine=engine)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            optimizer.step(lambda: model["used"](torch.ones(3, 4)).mean())
    assert [record.getMessage() for record in caplog.records] == [
        "the forward pass never reads unused.weight, unused.bias; directions move them at random"
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_replayed_loss_is_no_forward_pass(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = linear()
    optimizer = MeZO([("lora_A", layer.weight), ("bias", layer.bias)], directions="low-rank", engine=engine)
    with caplog.at_level(logging.WARNING):
        for answer in (1.0, torch.tensor(2.0)):
            optimizer.step(lambda answer=answer: answer)
        assert not caplog.records
        with pytest.raises(OptimizerError, match="never reads lora_A"):
            optimizer.step(lambda: layer.bias.sum())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_merged_adapter_is_refused_with_the_remedy(engine: str) -> None:
    forward = tiny_forwards.forward("llama", "lora")
    model: Any = forward.model
    model.merge_adapter()
    optimizer = MeZO(model.named_parameters(), engine=engine)
    with pytest.raises(OptimizerError, match=r"never reads .*lora_A.*: a merged LoRA adapter.*Unmerge it"):
        optimizer.step(forward.closure("plain"))
    model.unmerge_adapter()
    optimizer.step(forward.closure("plain"))


def half(dtype: torch.dtype = torch.bfloat16, size: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((64,), size, dtype=dtype))


def warned(caplog: pytest.LogCaptureFixture, theta: nn.Parameter, **settings: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        optimizer = MeZO([("theta", theta)], **settings)
        for _ in range(2):
            optimizer.step(lambda: theta.float().sum())
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_perturbation_too_small_for_the_dtype_is_said_once(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    (message,) = warned(caplog, half(), eps=1e-3, lr=0.0, engine=engine)
    assert message == (
        "perturbations of size 0.001 are below half a unit in the last place (0.0039 at median |w| = 1) of "
        "torch.bfloat16 in 1 tensors, such as theta: most of their weights do not move; a larger eps or float32 "
        "weights help"
    )
    assert not warned(caplog, half(size=0.02), eps=1e-3, lr=0.0, engine=engine)
    assert not warned(caplog, half(torch.float16), eps=1e-3, lr=0.0, engine=engine)
    assert not warned(caplog, half(torch.float32), eps=1e-9, lr=0.0, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_update_too_small_for_the_dtype_is_said_once(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    (message,) = warned(caplog, half(), eps=0.1, lr=1e-6, engine=engine, rounding="nearest")
    assert message.startswith("updates of size ")
    assert "(0.0039 at median |w| = 1) of torch.bfloat16 in 1 tensors, such as theta" in message
    assert message.endswith('most are lost; rounding="stochastic" keeps their mean')
    assert not warned(caplog, half(), eps=0.1, lr=1e-6, engine=engine, rounding="stochastic")
    assert not warned(caplog, half(), eps=0.1, lr=0.1, engine=engine, rounding="nearest")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_tensor_of_zeros_has_no_unit_in_the_last_place(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    assert not warned(caplog, half(dtype, 0.0), eps=1e-3, lr=1e-6, rounding="nearest")


def test_the_first_step_in_half_precision_makes_no_large_weight_whole(caplog: pytest.LogCaptureFixture) -> None:
    """The guard reads the weights themselves, 4096 of them, not tensors that are perturbed in order to be read."""
    stream = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(1000, 300, generator=stream, dtype=torch.bfloat16))
    x = torch.ones(2, 300, dtype=torch.bfloat16)
    closure = PerExample(lambda batch: functional.linear(batch["x"], weight).float().mean(1), [{"x": x}])
    engine = {"kind": "paired", "tile": 3000}
    with caplog.at_level(logging.WARNING):
        optimizer = MeZO([("weight", weight)], eps=1e-6, lr=0.0, engine=engine)
        peak = peak_of(lambda: optimizer.step(closure))
    assert [record.getMessage()[:26] for record in caplog.records] == ["perturbations of size 1e-0"]
    assert peak < weight.numel() * weight.element_size() / 4
