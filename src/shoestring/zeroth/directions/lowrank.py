"""Directions of low rank with Gaussian factors."""

from __future__ import annotations

from torch import Tensor

from shoestring.seeds import derive
from shoestring.zeroth.directions.base import DIRECTIONS
from shoestring.zeroth.directions.factored import Factored, check_rank, matrix_shape, normal
from shoestring.zeroth.tensors import Trained


class LowRank(Factored):
    """z = scale U V' for matrices, U [m, r] and V [n, r] of independent N(0, 1) numbers; Gaussian z for vectors.

    U comes from the direction's seed. V comes from `basis`, one for all directions, and is kept; or, where `basis` is
    None, from the direction's seed too.

    E z z' = r scale^2 I over U and V; for given V, z = scale U V' lies in the r-dimensional row space of V'.

    Args:
        rank: r.
        basis: seed of V, or None.
        scale: of matrices; vectors have none.

    Memory: (m + n) r numbers a matrix.

    Source: Chen et al. 2024, LOZO, equation of LGE (arXiv 2410.07698); without a basis, r = 1: Sarkar et al. 2025,
        EGGROLL (arXiv 2511.16652).
    """

    def __init__(self, rank: int, basis: int | None = None, scale: float = 1.0) -> None:
        super().__init__(check_rank("low-rank directions", rank), basis, scale)

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of scale U [m, r], float32."""
        height = (matrix_shape(tensor) or (0, 0))[0]

        def make() -> Tensor:
            made = normal(tensor, seed, 0, (height, self.rank))
            return made if self.scale == 1 else made * self.scale

        # Kept from the evaluation of a step to its update.
        what = (tensor.key, tensor.param.device, height, seed, self.scale)
        return self.keep(("left", tensor.key, tensor.param.device), what, make)[first:last]

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return V [n, r], float32."""
        shape = matrix_shape(tensor)
        width = shape[1] if shape is not None else 0
        basis = derive(seed, "right") if self.basis is None else self.basis
        place = (tensor.key, tensor.param.device)
        what = (tensor.key, tensor.param.device, width, basis)
        return self.keep(place, what, lambda: normal(tensor, basis, 0, (width, self.rank)))


@DIRECTIONS.register("low-rank")
def low_rank() -> LowRank:
    """Z = u v' for matrices, u and v Gaussian and new with each direction: E z z' = I, (m + n) numbers a direction."""
    return LowRank(1)
