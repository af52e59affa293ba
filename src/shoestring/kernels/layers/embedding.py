"""Embeddings: a row of the weight for each id."""

from __future__ import annotations

from torch import Tensor, nn

from shoestring.kernels.layers.base import LAYERS, LayerRule
from shoestring.kernels.pieces import Outer, Piece, thinned
from shoestring.kernels.sides import Dense, OneHot


class Embedding(LayerRule):
    """dW = sum_t onehot(id_t) d_t^T; nothing in the row of the padding id, as in torch."""

    def handles(self, module: nn.Module) -> bool:
        """Return whether it is torch's embedding."""
        return isinstance(module, nn.Embedding) and not module.scale_grad_by_freq

    def piece(self, module: nn.Module, name: str, seen: Tensor, grads: Tensor) -> Piece | None:
        """Return the gradient of the weight."""
        if name != "weight" or seen.shape[1] != grads.shape[2]:
            return None
        padding = getattr(module, "padding_idx", None)
        if padding is not None:
            grads = grads.masked_fill((seen == padding)[:, None, :, None], 0.0)
        return thinned(Outer(OneHot(seen), Dense(grads)))


LAYERS.register("embedding")(Embedding())
