"""Models, closures and choices for tests of APET."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import tiny
from shoestring.models.prompted import PromptedModel
from shoestring.runs.looking import look_at
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.apet import storage
from shoestring.tuning.catalog.apet import APET
from shoestring.tuning.look import Look

MODELS = (("roberta", "masked"), ("gpt2", "causal"), ("llama", "causal"), ("bert", "head"))


def loss_of(subject: PromptedModel, count: int = 6) -> Callable[[], Tensor]:
    """Return what gives the mean cross-entropy on a few examples."""
    batch = subject.collate(tiny.encoded(subject, count))
    return lambda: OBJECTIVES.get("cross-entropy").loss(subject, batch)


def look(subject: PromptedModel, count: int = 6) -> Look:
    """Return a look at a few training examples."""
    return look_at(subject, tiny.encoded(subject, count))


def tune(subject: PromptedModel, tuning: APET, seed: int = 3) -> nn.Module:
    """Apply a tuning, with a look where it wants one."""
    model = subject.model
    return tuning.apply_with(model, seed, look(subject)) if tuning.looks else tuning.apply(model, seed)


def chosen(model: nn.Module) -> dict[str, list[int]]:
    """Return the chosen positions by name of the tensor, all of them where it is trained whole."""
    found = storage.collect(model)
    whole = {name: list(range(value.numel())) for name, value in found.whole.items()}
    return {name: index.tolist() for name, (index, _) in found.chosen.items()} | whole


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return what requires gradients."""
    return [param for param in model.parameters() if param.requires_grad]


def count(model: nn.Module) -> int:
    """Return how many weights require gradients."""
    return sum(param.numel() for param in trained(model))


def scramble(params: Sequence[Tensor], scale: float = 0.1) -> None:
    """Move tensors by fixed random numbers."""
    for number, param in enumerate(params):
        noise = torch.randn(param.shape, generator=torch.Generator().manual_seed(number))
        param.data.add_(scale * noise.to(param.dtype))
