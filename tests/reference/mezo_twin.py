"""A MeZO step the slow way, from the paper's algorithm 1 and definition 1: dense directions, nothing in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.seeds import derive
from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise.plain import PlainNoise


@dataclass
class Weight:
    """One tensor, its group's settings, and its number among all tensors of the optimizer."""

    param: Tensor
    number: int
    lr: float
    weight_decay: float = 0.0


def direction(seed: int, weight: Weight) -> Tensor:
    """Return z of one tensor, float64."""
    z = torch.empty(weight.param.numel())
    PlainNoise().fill(z, Source(weight.number, "gaussian"), seed)
    return z.double().reshape(weight.param.shape)


def step(
    weights: Sequence[Weight], loss: Callable[[], Tensor | float], *, seed: int, number: int, eps: float, samples: int
) -> float:
    """Make step `number`, write the new weights, return the mean of all losses."""
    old = [weight.param.detach().clone() for weight in weights]
    estimates = [torch.zeros_like(theta) for theta in old]
    losses = []
    for sample in range(samples):
        z = [direction(derive(seed, "direction", number, sample), weight) for weight in weights]
        ends = []
        for sign in (1, -1):
            for weight, theta, along in zip(weights, old, z, strict=True):
                weight.param.data = theta + sign * eps * along
            with torch.no_grad():
                ends.append(float(loss()))
        projected = (ends[0] - ends[1]) / (2 * eps)
        estimates = [total + projected * along for total, along in zip(estimates, z, strict=True)]
        losses += ends
    for weight, theta, total in zip(weights, old, estimates, strict=True):
        weight.param.data = theta - weight.lr * (total / samples + weight.weight_decay * theta)
    return sum(losses) / len(losses)
