"""Conservative ZO-SGD."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing


@METHODS.register("zo-conservative")
class ZOConservative(Probing):
    """MeZO that evaluates its step and the opposite one, and goes where the loss is least.

    Source: Zhang et al. 2024 (ZO-Bench).
    """

    kind: Literal["zo-conservative"] = "zo-conservative"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    sides: Literal[1, 2] = 2
    """Ends of the direction that are evaluated for the slope."""
