"""Layer-wise MeZO."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging


@METHODS.register("layer-wise-mezo")
class LayerWiseMeZO(Averaging):
    """MeZO with a pair of forward passes for each layer.

    Source: Malladi et al. 2023, appendix B.
    """

    kind: Literal["layer-wise-mezo"] = "layer-wise-mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
