"""Least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shoestring.kernels.solvers.base import SOLVERS, Regressing

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution


@SOLVERS.register("least-squares")
class LeastSquares(Regressing):
    """f = K(., x)^T a with a = argmin |(K + r I)^T a - y|, of these the shortest, so that no kernel is singular.

    Source: Malladi et al. 2023 (arXiv 2210.05643), kernel regression.
    Differs: LM-Kernel-FT fits K a although it predicts by K^T a (src/kernel_solvers.py), which is the same for
        symmetric kernels only; there `torch.linalg.lstsq` on a GPU takes kernels to be of full rank.
    """

    kind: Literal["least-squares"] = "least-squares"

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return the shortest of the best solutions, by singular values; facts say the rank."""
        import torch

        from shoestring.kernels.solvers.fitted import Solution, linear

        found = torch.linalg.lstsq(matrix.T, targets.reshape(-1, 1), driver="gelsd")
        return Solution(linear(found.solution[:, 0]), {"rank": int(found.rank)})
