"""MeZO fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging


@METHODS.register("mezo")
class MeZO(Averaging):
    """Zeroth-order SGD: two forward passes a step and direction, no backward pass, the memory of inference.

    Source: Malladi et al. 2023; the defaults are those of its tables 15 and 16.
    """

    kind: Literal["mezo"] = "mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    sides: Literal[1, 2] = 2
    """Ends of each direction that are evaluated; 1 costs one pass a direction, and one more."""
    scale_lr: bool = False
    """Sum over directions instead of averaging: the learning rate grows with their number."""
    grow_over: PositiveInt | None = None
    """Steps over which the number of directions grows from 1 to `samples`; by default it is constant."""
