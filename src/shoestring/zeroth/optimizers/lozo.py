"""LOZO: perturbations and updates of low rank, in a column space that is kept for a while."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Params
from shoestring.zeroth.bases import PeriodicBasis
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("lozo")
class LOZO(PeriodicBasis):
    r"""Low-rank zeroth-order SGD.

    Per step t, for each matrix W [m, n] (more axes are seen as [first, rest]), with U [m, r] of N(0, 1) numbers from
    the step and V [n, r] from t // period:

        c = (L(W + eps U V') - L(W - eps U V')) / (2 eps)
        W <- W - lr * ( c U V' / r  +  weight_decay * W )

    Vectors are perturbed by N(0, I), and their step is c z. Over U and V the estimate has the gradient as its mean;
    within a period, with V given, the mean is grad V V' / r.

    Costs two forward passes a step. Memory: V, n r numbers a matrix. Nothing is kept in `state`: V is made again from
    the step's number.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        rank: r; published: 1 or 2 for large models, 4 for medium ones.
        period: nu, steps before V is drawn anew; published: 50 or 100.
        divide_by_rank: the paper's 1 / r. Published learning rates (1e-7, 1e-6) go with the published code, which
            has no such factor: give False with them, or r times the rate.
        common: `weight_decay`, `seed`, `engine`, ...: see `ZerothOrder`; `directions` are LOZO's own.

    Raises:
        OptimizerError: for settings that cannot work, and for `directions`.

    Source: Chen et al. 2024, algorithm 1 (arXiv 2410.07698).
    Differs: the update has the U of the perturbation at every step. The reference draws V between seed and U when it
        perturbs on the first step of a period, and not when it updates, so that this step's update is along another
        direction (optsuite/LOZO large_models/LOZOtrainer.py, lowrank_zo_perturb_parameters, lowrank_zo_update). 1 / r
        as in the paper unless switched off. Weight decay as in MeZO here.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        rank: int = 2,
        period: int = 50,
        divide_by_rank: bool = True,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr, {"eps": eps, "divide_by_rank": bool(divide_by_rank)}, rank, period, **common)

    def make(self, rank: int, basis: int) -> LowRank:
        """Return the directions U V' with V from `basis`."""
        return LowRank(rank, basis)

    def update(self, estimate: Estimate) -> Update:
        """Return descent along the direction that was probed, matrices divided by r."""
        scale = 1 / self.shared["rank"] if self.shared["divide_by_rank"] else 1.0
        directions = self.family().scaled(scale)
        return TermsUpdate(directions, estimate.terms, self.rates(), self.rounding_seed())
