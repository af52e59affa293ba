"""GPT-2's linear layers, whose weight is stored the other way round: y = x W + b."""

from __future__ import annotations

from torch import Tensor, nn

from shoestring.kernels.layers.base import LAYERS, LayerRule, summed
from shoestring.kernels.pieces import Outer, Piece, thinned
from shoestring.kernels.sides import Dense


class Conv1D(LayerRule):
    """dW = sum_t x_t d_t^T, db = sum_t d_t, for outputs' gradients d and inputs x."""

    def handles(self, module: nn.Module) -> bool:
        """Return whether it is transformers' Conv1D."""
        return type(module).__name__ == "Conv1D" and hasattr(module, "nf")

    def piece(self, module: nn.Module, name: str, seen: Tensor, grads: Tensor) -> Piece | None:
        """Return the gradient of the weight or of the bias."""
        if name == "bias":
            return summed(grads)
        if name != "weight" or seen.shape[1] != grads.shape[2]:
            return None
        return thinned(Outer(Dense(seen[:, None]), Dense(grads)))


LAYERS.register("conv1d")(Conv1D())
