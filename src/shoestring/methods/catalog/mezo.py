"""MeZO fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import ZerothMethod


@METHODS.register("mezo")
class MeZO(ZerothMethod):
    """Zeroth-order SGD: two forward passes a step and direction, no backward pass, the memory of inference.

    Source: Malladi et al. 2023; the defaults are those of its tables 15 and 16.
    """

    kind: Literal["mezo"] = "mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    samples: PositiveInt = 1
    """Directions a step, all on the same batch; their estimates are averaged."""
