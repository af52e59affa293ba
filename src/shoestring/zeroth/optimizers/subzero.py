"""SubZero: perturbations and updates in a random subspace of each matrix, with orthonormal bases."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Params
from shoestring.zeroth.bases import PeriodicBasis
from shoestring.zeroth.directions.subspace import Subspace
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("subzero")
class SubZero(PeriodicBasis):
    r"""Zeroth-order SGD in random subspaces.

    Per step t, for each matrix W [m, n] (more axes are seen as [first, rest]), with column-orthonormal U [m, r] and
    V [n, r] from t // period, and Z [r, r] of N(0, 1) numbers from the step:

        P = sqrt(m n / r^2) U Z V'
        c = (L(W + eps P) - L(W - eps P)) / (2 eps)
        W <- W - lr * ( c P  +  weight_decay * W )

    Vectors are perturbed by N(0, I). Over bases and Z the estimate has the gradient as its mean; within a period, with
    U and V given, the mean is (m n / r^2) U U' grad V V'.

    Costs two forward passes a step. Memory: the bases, (m + n) r numbers a matrix. Nothing is kept in `state`: bases
    are made again from the step's number.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate; published: 1e-7 to 1e-6.
        eps: size of the perturbation.
        rank: r; published: 16 to 128. Matrices with a smaller side have that as their rank.
        period: F, steps before U and V are drawn anew; published: 500 to 2,000.
        common: `weight_decay`, `seed`, `engine`, ...: see `ZerothOrder`; `directions` are SubZero's own.

    Raises:
        OptimizerError: for settings that cannot work, and for `directions`.

    Source: Yu et al. 2024, algorithms 1 and 2 (arXiv 2410.08989).
    Differs: bases are made uniform among all orthonormal ones by the signs of R in the QR decomposition; a bare
        decomposition depends on how a library chooses them. Weight decay as in MeZO here.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        rank: int = 64,
        period: int = 1000,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr, {"eps": eps}, rank, period, **common)

    def make(self, rank: int, basis: int) -> Subspace:
        """Return the directions sqrt(m n / r^2) U Z V' with U and V from `basis`."""
        return Subspace(rank, basis)

    def update(self, estimate: Estimate) -> Update:
        """Return descent along the direction that was probed."""
        return TermsUpdate(self.family(), estimate.terms, self.rates(), self.rounding_seed())
