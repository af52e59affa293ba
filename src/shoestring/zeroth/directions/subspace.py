"""Directions in a random subspace with orthonormal bases."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shoestring.seeds import derive
from shoestring.zeroth.directions.factored import Factored, check_rank, matrix_shape, normal
from shoestring.zeroth.tensors import Trained


class Subspace(Factored):
    """z = scale sqrt(m n / r^2) U Z V' for matrices, Z [r, r] of independent N(0, 1) numbers; Gaussian z for vectors.

    U [m, r] and V [n, r] have orthonormal columns, uniform (Haar) among all such, and come from `basis`; Z comes from
    the direction's seed. Where a matrix has fewer rows or columns than `rank`, r = min(m, n).

    With scale 1, E|z|^2 = m n, as of Gaussian z; E z z' = I over bases and Z; for given U and V it is m n / r^2 times
    the orthogonal projector onto {U Z V'}.

    Args:
        rank: r.
        basis: seed of U and V.
        scale: of matrices.

    Memory: (m + n) r numbers a matrix.

    Source: Yu et al. 2024, SubZero (arXiv 2410.08989).
    """

    def __init__(self, rank: int, basis: int, scale: float = 1.0) -> None:
        super().__init__(check_rank("subspace directions", rank), basis, scale)
        self.sides = {side: derive(basis, side) for side in ("left", "right")}

    def rank_of(self, tensor: Trained) -> int:
        """Return r of a tensor: the rank asked for, or its smaller side."""
        return min(self.rank, *(matrix_shape(tensor) or (0,)))

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of scale sqrt(m n / r^2) U Z [m, r], float32."""
        # Of all rows, since the last bits of a product depend on how many are multiplied at once.
        what = (tensor.key, tensor.param.device, tensor.param.shape, seed, self.scale)
        return self.keep("left", what, lambda: self._left(tensor, seed))[first:last]

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return V [n, r], float32."""
        return self._basis(tensor, "right")

    def _left(self, tensor: Trained, seed: int) -> Tensor:
        height, width = matrix_shape(tensor) or (0, 0)
        rank = self.rank_of(tensor)
        core = normal(tensor, seed, 0, (rank, rank)) * (self.scale * math.sqrt(height * width) / rank)
        with torch.autocast(core.device.type, enabled=False):
            return self._basis(tensor, "left") @ core

    def _basis(self, tensor: Trained, side: str) -> Tensor:
        height, width = matrix_shape(tensor) or (0, 0)
        size = height if side == "left" else width
        place = (tensor.key, tensor.param.device, side)
        rank = self.rank_of(tensor)
        return self.keep(place, (size, rank), lambda: orthonormal(tensor, self.sides[side], size, rank))


def orthonormal(tensor: Trained, seed: int, size: int, rank: int) -> Tensor:
    """Return Q [size, rank] with orthonormal columns, uniform among all such, float32.

    Q R is the QR decomposition of a Gaussian matrix; Q diag(sign R) is uniform, Q alone is not, since libraries choose
    the signs of R as they please. Made in float64 on the CPU, so that it is the same for every device.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups".
    """
    found, upper = torch.linalg.qr(normal(tensor, seed, 0, (size, rank)).cpu().double())
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).double()
    return (found * signs).float().to(tensor.param.device)
