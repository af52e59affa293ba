"""Forward gradients."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import ZerothMethod


@METHODS.register("forward-gradient")
class ForwardGradient(ZerothMethod):
    """SGD along random directions with exact slopes, by forward-mode differentiation.

    Source: Baydin et al. 2022.
    """

    kind: Literal["forward-gradient"] = "forward-gradient"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    directions: Literal["gaussian", "rademacher"] = "gaussian"
    """What the slope is taken along."""
    samples: PositiveInt = 1
    """Directions a step; their estimates are averaged."""
