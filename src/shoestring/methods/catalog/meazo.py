"""MEAZO."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging, Share


@METHODS.register("meazo")
class MEAZO(Averaging):
    """MeZO with a step divided by a running second moment of the slopes, one number.

    Source: MEAZO, 2026 (arXiv 2605.03869).
    """

    kind: Literal["meazo"] = "meazo"
    lr: NonNegativeFloat = 1e-4
    """Learning rate."""
    beta: Share = 0.99
    """Decay rate of the second moment."""
    floor: PositiveFloat = 1e-8
    """Added to its root."""
