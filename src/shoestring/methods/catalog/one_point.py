"""One-point MeZO."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing


@METHODS.register("one-point")
class OnePointMeZO(Probing):
    """Zeroth-order SGD with one forward pass a step: the other end is the step before.

    Source: Malladi et al. 2023, definition 8.
    """

    kind: Literal["one-point"] = "one-point"
    lr: NonNegativeFloat = 1e-7
    """Learning rate."""
