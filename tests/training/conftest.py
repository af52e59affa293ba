"""What the tests of training watch: every batch, with the weights and settings it met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import tiny
from shoestring.training.trainer import PromptTrainer


@dataclass
class Seen:
    """One loss evaluation."""

    indices: list[int]
    weights: dict[str, torch.Tensor]
    lrs: list[float]
    training: bool
    step: int


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """The first evaluation of the training loss on each micro-batch of each step, in order."""
    found: list[Seen] = []
    original = PromptTrainer.losses

    def watch(self: PromptTrainer, inputs: dict[str, Any]) -> torch.Tensor:
        optimizer, model = self.optimizer, self.job.subject.model
        assert optimizer is not None
        lrs = [group["lr"] for group in optimizer.param_groups]
        training = any(module.training for module in model.modules())
        indices = list(dict.fromkeys(inputs["example"].tolist()))  # An engine may repeat the batch.
        if not any((one.step, one.indices) == (self.state.global_step, indices) for one in found):
            found.append(Seen(indices, tiny.weights(model), lrs, training, self.state.global_step))
        return original(self, inputs)

    monkeypatch.setattr(PromptTrainer, "losses", watch)
    return found


@pytest.fixture
def script_dev(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, torch.Tensor]]]:
    """Replace the evaluations on dev by given numbers; returns the list of weights they met."""

    def script(metrics: list[float], losses: list[float], model: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
        met: list[dict[str, torch.Tensor]] = []

        def evaluate(*_: Any) -> dict[str, float]:
            met.append(tiny.weights(model))
            return {"accuracy": metrics[len(met) - 1], "loss": losses[len(met) - 1]}

        monkeypatch.setattr("shoestring.training.trainer.evaluate", evaluate)
        return met

    return script
