"""Linear layers: y = W x + b."""

from __future__ import annotations

from torch import Tensor, nn

from shoestring.kernels.layers.base import LAYERS, LayerRule, summed
from shoestring.kernels.pieces import Outer, Piece, thinned
from shoestring.kernels.sides import Dense, compact

_VOCABULARY = 4


class Linear(LayerRule):
    """dW = sum_t d_t x_t^T, db = sum_t d_t, for outputs' gradients d and inputs x."""

    def handles(self, module: nn.Module) -> bool:
        """Return whether it is torch's linear layer, or a subclass of it, such as those inside peft's adapters."""
        return isinstance(module, nn.Linear)

    def piece(self, module: nn.Module, name: str, seen: Tensor, grads: Tensor) -> Piece | None:
        """Return the gradient of the weight or of the bias."""
        if name == "bias":
            return summed(grads)
        if name != "weight" or seen.shape[1] != grads.shape[2]:
            return None
        # Masked models read the logits of a few words out of a whole vocabulary.
        wide = grads.shape[3] > _VOCABULARY * seen.shape[2]
        return thinned(Outer(compact(grads) if wide else Dense(grads), Dense(seen[:, None])))


LAYERS.register("linear")(Linear())
