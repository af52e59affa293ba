"""SubZero fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Perturbing


@METHODS.register("subzero")
class SubZero(Perturbing):
    """MeZO in random subspaces of each matrix.

    Source: Yu et al. 2024.
    """

    kind: Literal["subzero"] = "subzero"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    rank: PositiveInt = 64
    """Dimension of the subspace on each side of a matrix."""
    period: PositiveInt = 1000
    """Steps before the subspaces are drawn anew."""
