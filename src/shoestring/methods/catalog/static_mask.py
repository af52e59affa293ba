"""MeZO on a fixed choice of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat

from shoestring.methods.base import METHODS
from shoestring.methods.zeroth import Averaging, Portion

if TYPE_CHECKING:
    from torch.nn import Module


@METHODS.register("static-mask")
class StaticMaskMeZO(Averaging):
    """MeZO on a fixed share of the weights; the others are as if frozen.

    Source: Guo et al. 2024 (SensZOQ), whose choice by gradients is made in Python: `shoestring.zeroth.masks`.
    """

    kind: Literal["static-mask"] = "static-mask"
    lr: NonNegativeFloat = 1e-6
    """Learning rate."""
    share: Portion = 0.01
    """Share of the trained weights that moves."""
    choose: Literal["random", "magnitude"] = "random"
    """Which: at random, from the seed, or the largest of all."""

    def own(self, model: Module, seed: int) -> dict[str, Any]:
        """Return the optimizer's settings, the masks among them."""
        from shoestring.zeroth.masks import largest

        settings = super().own(model, seed)
        share, choose = settings.pop("share"), settings.pop("choose")
        if choose == "random":
            return {**settings, "masks": share}
        sizes = {name: param.detach().abs() for name, param in model.named_parameters() if param.requires_grad}
        return {**settings, "masks": largest(sizes, share)}
