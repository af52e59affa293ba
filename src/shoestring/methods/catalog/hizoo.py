"""HiZOO fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing, ScheduleName, Share


@METHODS.register("hizoo")
class HiZOO(Probing):
    """MeZO preconditioned by a running diagonal of the Hessian; three forward passes a step.

    Source: Zhao et al. 2024.
    """

    kind: Literal["hizoo"] = "hizoo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    smoothing: Share | ScheduleName | list[tuple[NonNegativeInt, Share]] = 1e-8
    """Weight of a step in the running curvature; or pairs (first step, weight from then on), or a name."""
    floor: PositiveFloat = 1e-8
    """Least value of the curvature."""
