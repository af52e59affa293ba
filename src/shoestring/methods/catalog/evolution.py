"""Evolution strategies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Probing


@METHODS.register("evolution")
class EvolutionStrategies(Probing):
    """A population around the weights, weighted by rewards made comparable.

    Source: Qiu et al. 2025; Salimans et al. 2017.
    """

    kind: Literal["evolution"] = "evolution"
    lr: NonNegativeFloat = 5e-4
    """Learning rate."""
    samples: int = Field(default=30, ge=2)
    """Directions a step."""
    antithetic: bool = False
    """Evaluate both ends of each direction."""
    shape: Literal["z-score", "rank"] = "z-score"
    """How rewards are made comparable."""
