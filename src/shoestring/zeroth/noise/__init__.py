"""Noise: the numbers of a direction, made anywhere, in any order, from (direction seed, tensor key, element)."""

from __future__ import annotations

from shoestring.zeroth.noise.base import Distribution, Noise
from shoestring.zeroth.noise.choose import noise_for, using

__all__ = ["Distribution", "Noise", "noise_for", "using"]
