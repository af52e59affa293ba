"""Variance-modified MeZO."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging


@METHODS.register("variance-modified-mezo")
class VarianceModifiedMeZO(Averaging):
    """MeZO that perturbs each layer in inverse proportion to a norm; unbiased.

    Source: Malladi et al. 2023, definition 6.
    """

    kind: Literal["variance-modified-mezo"] = "variance-modified-mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    norms: Literal["parameters", "gradients", "zeroth-order"] = "parameters"
    """What a layer's scale is the norm of; gradients take one backward pass."""
    recompute_every: PositiveInt | None = None
    """Steps between measurements of the norms; by default the first is kept."""
