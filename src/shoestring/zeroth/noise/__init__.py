"""Noise: the numbers of a direction, made anywhere, in any order, from (direction seed, tensor key, element)."""

from __future__ import annotations

from torch import Tensor

from shoestring.zeroth.noise.base import Distribution, Noise
from shoestring.zeroth.noise.plain import PlainNoise

__all__ = ["Distribution", "Noise", "noise_for"]

_PLAIN = PlainNoise()


def noise_for(weight: Tensor) -> Noise:
    """Return the fastest backend for tensors like `weight`."""
    return _PLAIN
