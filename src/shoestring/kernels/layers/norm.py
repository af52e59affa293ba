"""Norms: y = w * normalised(x) + b, or with 1 + w, element by element."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from shoestring.kernels.layers.base import LAYERS, LayerRule, summed
from shoestring.kernels.pieces import Piece


class Norm(LayerRule):
    """dw = sum_t d_t * normalised(x_t), db = sum_t d_t.

    What the norm makes of x before the weight is had from the module itself: its output with weight 1, less that with
    weight 0. This serves LayerNorm and RMSNorm as they are spelled in any model.
    """

    def handles(self, module: nn.Module) -> bool:
        """Return whether it is called a norm and has no parameters but a weight, and at most a bias, of one axis."""
        own = dict(module.named_parameters())
        shapes = {tuple(param.shape) for param in own.values()}
        named = type(module).__name__.endswith("Norm")
        return named and "weight" in own and own.keys() <= {"weight", "bias"} and len(shapes) == 1 and _flat(own)

    def piece(self, module: nn.Module, name: str, seen: Tensor, grads: Tensor) -> Piece | None:
        """Return the gradient of the weight or of the bias."""
        if name == "bias":
            return summed(grads)
        weight = module.get_parameter("weight")
        if seen.shape[-1] != len(weight) or seen.shape[1] != grads.shape[2]:
            return None
        with torch.no_grad():
            at_one = functional_call(module, {"weight": torch.ones_like(weight)}, seen)
            at_zero = functional_call(module, {"weight": torch.zeros_like(weight)}, seen)
        return summed(grads * (at_one - at_zero)[:, None])


def _flat(own: dict[str, nn.Parameter]) -> bool:
    return own["weight"].ndim == 1


LAYERS.register("norm")(Norm())
