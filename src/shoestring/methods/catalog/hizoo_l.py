"""HiZOO-L fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing, ScheduleName, Share


@METHODS.register("hizoo-l")
class HiZOOL(Probing):
    """HiZOO with row and column factors in the place of the diagonal.

    Source: Zhao et al. 2024.
    """

    kind: Literal["hizoo-l"] = "hizoo-l"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    smoothing: Share | ScheduleName | list[tuple[NonNegativeInt, Share]] = 1e-8
    """Weight of a step in the running curvature; or pairs (first step, weight from then on), or a name."""
    floor: PositiveFloat = 1e-8
    """Least value of the curvature."""
