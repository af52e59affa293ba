"""A zeroth-order optimizer is an ordinary one: plain loops, Lightning Fabric and accelerate drive it alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from shoestring.zeroth.base import OPTIMIZERS, ZerothOrder

pytestmark = pytest.mark.usefixtures("frozen_imports")
STEPS = 3
Loop = Callable[[str], tuple[dict[str, Tensor], list[float]]]


def model() -> nn.Module:
    return tiny.build_model("roberta", "masked")


def inputs() -> dict[str, Tensor]:
    subject = tiny.prompted("roberta", "masked")
    batch = subject.collate(tiny.encoded(subject, 4))
    ids = batch["input_ids"]
    return {"input_ids": ids, "attention_mask": batch["attention_mask"], "labels": ids}


def optimizer_of(subject: nn.Module, name: str) -> ZerothOrder:
    return OPTIMIZERS.get(name)(subject.named_parameters(), lr=1e-3, seed=5)


def plainly(name: str) -> tuple[dict[str, Tensor], list[float]]:
    subject, batch = model().eval(), inputs()
    optimizer = optimizer_of(subject, name)
    losses = [float(optimizer.step(lambda: subject(**batch).loss)) for _ in range(STEPS)]
    optimizer.finalize()
    return tiny.weights(subject), losses


def with_fabric(name: str) -> tuple[dict[str, Tensor], list[float]]:
    fabric_module = pytest.importorskip("lightning_fabric", reason="needs lightning-fabric")
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    subject, batch = model().eval(), inputs()
    bare = optimizer_of(subject, name)
    wrapped, optimizer = fabric.setup(subject, bare)
    closure: Callable[[], Any] = lambda: wrapped(**batch).loss  # noqa: E731
    losses = [float(optimizer.step(closure)) for _ in range(STEPS)]
    bare.finalize()
    return tiny.weights(subject), losses


def with_accelerate(name: str) -> tuple[dict[str, Tensor], list[float]]:
    from accelerate import Accelerator

    subject, batch = model().eval(), inputs()
    bare = optimizer_of(subject, name)
    wrapped, optimizer = Accelerator(cpu=True).prepare(subject, bare)
    losses = []
    for _ in range(STEPS):
        optimizer.step(lambda: wrapped(**batch).loss)
        assert bare.last_loss is not None  # accelerate's wrapper swallows what step returns
        losses.append(float(bare.last_loss))
    bare.finalize()
    return tiny.weights(subject), losses


@pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
@pytest.mark.parametrize("name", ["mezo", "fzoo"])
@pytest.mark.parametrize("loop", [with_fabric, with_accelerate])
def test_every_loop_makes_the_same_steps(loop: Loop, name: str) -> None:
    weights, losses = loop(name)
    wanted, wanted_losses = plainly(name)
    assert losses == wanted_losses
    assert tiny.equal(weights, wanted)
    assert not tiny.equal(weights, tiny.weights(model()))
    assert torch.is_grad_enabled()
