"""FZOO fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing


@METHODS.register("fzoo")
class FZOO(Probing):
    """Many one-sided probes a step, divided by the deviation of their losses.

    Source: Dang et al. 2025.
    """

    kind: Literal["fzoo"] = "fzoo"
    lr: NonNegativeFloat = 5e-5
    """Learning rate."""
    eps: PositiveFloat = 1e-4
    """Size of the perturbation."""
    directions: Literal["gaussian", "rademacher"] = "rademacher"
    """What the loss is probed along: -1 and +1, or normal numbers."""
    samples: int = Field(default=8, ge=2)
    """Directions a step; one forward pass each, and one more."""
