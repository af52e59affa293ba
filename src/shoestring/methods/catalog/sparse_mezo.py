"""Sparse-MeZO."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging, Share


@METHODS.register("sparse-mezo")
class SparseMeZO(Averaging):
    """MeZO on the weights of small magnitude.

    Source: Liu et al. 2024.
    """

    kind: Literal["sparse-mezo"] = "sparse-mezo"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    sparsity: Share = 0.75
    """Share of the weights of every tensor that is left alone."""
