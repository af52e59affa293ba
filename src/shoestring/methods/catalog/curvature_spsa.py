"""1.5-SPSA."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging


@METHODS.register("1.5-spsa")
class CurvatureSPSA(Averaging):
    """MeZO in which directions of strong curvature count less.

    Source: 1.5-SPSA; Spall 2000.
    """

    kind: Literal["1.5-spsa"] = "1.5-spsa"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    directions: Literal["gaussian", "rademacher"] = "rademacher"
    """What the loss is probed along: -1 and +1, or normal numbers."""
    power: NonNegativeFloat = 0.1
    """Power of the curvature in the weights; 0 makes it MeZO."""
