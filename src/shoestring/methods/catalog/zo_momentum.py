"""ZO-SGD with momentum."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging, Share


@METHODS.register("zo-momentum")
class ZOMomentum(Averaging):
    """MeZO with momentum.

    Source: Malladi et al. 2023, appendix B.2; Zhang et al. 2024 (ZO-Bench).
    """

    kind: Literal["zo-momentum"] = "zo-momentum"
    lr: NonNegativeFloat = 1e-7
    """Learning rate."""
    momentum: Share = 0.9
    """Decay of the running estimate."""
    moments: Literal["stored", "recompute"] | PositiveInt = "stored"
    """Keep the running estimate, or make it again from past steps: from all that count, or from how many."""
