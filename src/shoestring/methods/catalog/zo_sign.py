"""ZO-SGD with signs."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging


@METHODS.register("zo-sign")
class ZOSign(Averaging):
    """MeZO with the sign of the slope, or of the estimate.

    Source: Zhang et al. 2024 (ZO-Bench).
    """

    kind: Literal["zo-sign"] = "zo-sign"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    of: Literal["projected-grad", "estimate"] = "projected-grad"
    """What the sign is taken of: the slope, or every coordinate of the estimate."""
