"""Bottleneck adapters: where they stand, what they compute, what they cost."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

import tiny
from shoestring.errors import ModelError
from shoestring.tuning.base import count_trained
from shoestring.tuning.catalog.adapter import Adapter
from tuning.subjects import ARCHITECTURES, batch, checkpointed, disturb, logits, losses, model_of, trained

pytestmark = pytest.mark.usefixtures("frozen_imports")
EVERY = [*ARCHITECTURES, "gemma2", "bloom", "distilbert", "albert", "electra", "modernbert"]
STYLES = ("houlsby", "pfeiffer", "parallel")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("architecture", EVERY)
def test_adapters_are_nothing_at_first_and_then_change_what_is_said(architecture: str, style: str) -> None:
    model, settings = model_of(architecture), Adapter(width=3, style=style)
    model.requires_grad_(False)
    before, declared = logits(model), settings.count(model)
    names = {name for name, _ in model.named_parameters()}
    settings.apply(model, seed=1)
    assert torch.equal(logits(model), before)
    assert count_trained(model) == declared
    networks = 1 if architecture == "albert" else 4 if architecture in tiny.SEQ2SEQ else 2
    adapters = {name.split(".adapter.")[0] for name in trained(model)}
    assert len(adapters) == networks * (2 if style == "houlsby" else 1)
    assert all(".adapter." in name for name in trained(model))
    assert names < {name for name, _ in model.named_parameters()}
    disturb(model)
    changed = logits(model)
    assert not torch.allclose(changed, before)
    assert torch.equal(logits(copy.deepcopy(model)), changed)


def test_an_adapter_costs_two_layers_and_their_biases() -> None:
    each = 32 * 3 + 3 + 3 * 32 + 32
    assert Adapter(width=3).count(model_of("roberta")) == 4 * each
    assert Adapter(width=3, style="pfeiffer").count(model_of("llama")) == 2 * each
    assert Adapter(width=3, style="parallel", also="norm").count(model_of("llama")) == 2 * each + 5 * 32


def parts(style: str, scale: float | None) -> tuple[Any, Any, torch.Tensor, Any]:
    settings = Adapter(width=3, style=style, scale=scale, activation="relu")
    model = settings.apply(model_of("llama", dtype=torch.float64), seed=0)
    disturb(model)
    x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = model.model.layers[0].mlp
    return network, network.down_proj.adapter, x, model_of("llama", dtype=torch.float64).model.layers[0].mlp


@pytest.mark.parametrize(
    ("style", "scale", "factor"), [("pfeiffer", None, 1.0), ("parallel", None, 4.0), ("parallel", 0.5, 0.5)]
)
def test_adapters_are_what_their_equations_say(style: str, scale: float | None, factor: float) -> None:
    network, adapter, x, plain = parts(style, scale)
    with torch.no_grad():
        y = plain(x)
        read = x if style == "parallel" else y
        inner = functional.relu(read @ adapter.down.weight.T + adapter.down.bias)
        wanted = y + factor * (inner @ adapter.up.weight.T + adapter.up.bias)
        torch.testing.assert_close(network(x), wanted)


def test_dropout_is_of_training_with_gradients() -> None:
    model = Adapter(width=8, dropout=0.5).apply(model_of("roberta"), seed=0)
    disturb(model)
    assert torch.equal(logits(model), logits(model))
    for module in model.modules():
        if type(module).__name__ == "Bottleneck":
            module.train()
    with torch.random.fork_rng():
        assert not torch.equal(logits(model), logits(model))


@pytest.mark.parametrize("style", STYLES)
def test_gradient_checkpointing_gives_the_same_gradients(style: str) -> None:
    def gradients(*, checkpointing: bool) -> list[torch.Tensor]:
        model = model_of("llama", dtype=torch.float64)
        Adapter(width=3, style=style).apply(model, seed=0)
        disturb(model)
        if checkpointing:
            checkpointed(model)
        losses(model, batch(model)).sum().backward()
        return [param.grad for param in model.parameters() if param.grad is not None]

    for one, other in zip(gradients(checkpointing=True), gradients(checkpointing=False), strict=True):
        torch.testing.assert_close(one, other)


def test_generation_passes_through_adapters() -> None:
    model = Adapter(width=3, style="parallel").apply(model_of("llama"), seed=0)
    disturb(model)
    given = batch(model)["input_ids"][:1]
    written = [
        model.generate(given, max_new_tokens=5, do_sample=False, use_cache=cached, eos_token_id=None)
        for cached in (True, False)
    ]
    assert torch.equal(*written)


@pytest.mark.parametrize("style", STYLES)
def test_an_architecture_whose_layers_are_not_known_is_refused(style: str) -> None:
    class Other(torch.nn.Module):
        pass

    with pytest.raises(ModelError, match=r'tuning.kind="adapter": where Other has its .*feed-forward layers is not kn'):
        Adapter(style=style).apply(Other(), seed=0)
