"""ZO-Adam."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging, Share


@METHODS.register("zo-adam")
class ZOAdam(Averaging):
    """Adam on zeroth-order estimates.

    Source: Malladi et al. 2023, appendix B.2; Zhang et al. 2024 (ZO-Bench).
    """

    kind: Literal["zo-adam"] = "zo-adam"
    lr: NonNegativeFloat = 1e-4
    """Learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of the running first and second moments."""
    floor: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    moments: Literal["stored", "recompute"] | PositiveInt = "stored"
    """Keep the moments, or make them again from past steps: from all that count, or from how many."""
