"""LOZO-M fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Perturbing, Share


@METHODS.register("lozo-m")
class LOZOM(Perturbing):
    """LOZO with momentum, kept in one factor.

    Source: Chen et al. 2024.
    """

    kind: Literal["lozo-m"] = "lozo-m"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    momentum: Share = 0.9
    """Decay of the running estimate."""
    rank: PositiveInt = 2
    """Rank of the perturbation of a matrix."""
    period: PositiveInt = 50
    """Steps before one of its factors is drawn anew."""
    divide_by_rank: bool = True
    """Divide the step by the rank, as in the paper; its code, and published learning rates, do not."""
