"""LOZO-M: LOZO with momentum, kept in factored form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Params
from shoestring.zeroth.bases import PeriodicBasis
from shoestring.zeroth.checks import check_share
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.factored import Factored, matrix_shape
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("lozo-m")
class LOZOM(PeriodicBasis):
    r"""LOZO whose matrices keep momentum N [m, r], in the coordinates that V gives.

    Per step, c, U and V as in `LOZO`:

        N <- N (V_old' V) / n                      where V is another than N's
        N <- momentum N + (1 - momentum) c U       N <- c U at the first step
        W <- W - lr * ( N V' / r  +  weight_decay * W )

    Vectors keep momentum of their own size, along z. With momentum 0 this is LOZO.

    Costs two forward passes a step. Memory: V (n r numbers a matrix); `state`: N (m r numbers a matrix) and vectors'
    momentum, float32.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        momentum: beta.
        eps: size of the perturbation.
        rank: r.
        period: nu, steps before V is drawn anew.
        divide_by_rank: the paper's 1 / r; see `LOZO`.
        common: `weight_decay`, `seed`, `engine`, ...: see `ZerothOrder`; `directions` are LOZO's own.

    Raises:
        OptimizerError: for settings that cannot work, and for `directions`.

    Source: Chen et al. 2024, LOZO-M, section 4 (arXiv 2410.07698).
    Differs: as `LOZO` does; the mean over the first steps starts at c U as in the code, and is not corrected for it.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        momentum: float = 0.9,
        eps: float = 1e-3,
        rank: int = 2,
        period: int = 50,
        divide_by_rank: bool = True,
        **common: Unpack[Common],
    ) -> None:
        check_share(type(self).__name__, "momentum", momentum)
        own = {"eps": eps, "momentum": momentum, "divide_by_rank": bool(divide_by_rank)}
        super().__init__(params, lr, own, rank, period, **common)

    def make(self, rank: int, basis: int) -> LowRank:
        """Return the directions U V' with V from `basis`."""
        return LowRank(rank, basis)

    def update(self, estimate: Estimate) -> Update:
        """Return descent along the momentum, which is moved on here: it is small, and the weights need all of it."""
        number, tensors = self.shared["steps"] // self.shared["period"], self.engine.tensors
        rights = self._old_rights(tensors, number)
        family = self.family(number)
        held: dict[int, Tensor] = {}
        for tensor in tensors:
            # A new tensor each time: an update that an engine still holds keeps the old one.
            momentum = self._moved(tensor, family, estimate, rights.get(tensor.key))
            held[tensor.key] = momentum
            self.state[tensor.param].update(momentum=momentum, basis=number)
        scale = 1 / self.shared["rank"] if self.shared["divide_by_rank"] else 1.0
        directions = Momentum(family, held, scale)
        return TermsUpdate(directions, ((0, 1.0),), self.rates(), self.rounding_seed())

    def _old_rights(self, tensors: Sequence[Trained], number: int) -> dict[int, Tensor]:
        """Return V of the matrices, by key, whose momentum is in another basis than this one."""
        bases: dict[int, list[Trained]] = {}
        for tensor in tensors:
            held = self.state[tensor.param]
            if "momentum" in held and matrix_shape(tensor) is not None:
                # Earlier versions noted one basis for all, which a tensor that was frozen since may not have.
                bases.setdefault(held["basis"] if "basis" in held else self.shared["momentum_basis"], []).append(tensor)
        bases.pop(number, None)
        return {tensor.key: self.family(basis).right(tensor, 0) for basis, those in bases.items() for tensor in those}

    def _moved(self, tensor: Trained, family: Factored, estimate: Estimate, old_right: Tensor | None) -> Tensor:
        """Return the momentum after this step: N [m, r] of a matrix, all of a vector."""
        ((seed, slope),) = estimate.terms
        factors = family.factors(tensor, seed)
        if factors is None:
            along = torch.empty(tensor.param.numel(), dtype=torch.float32, device=tensor.param.device)
            family.vectors.fill(along, tensor, seed)
        else:
            along = factors[0]
        before = self.state[tensor.param].get("momentum")
        if before is None:
            return along * slope
        if factors is not None and old_right is not None:
            before = before @ (old_right.T @ factors[1] / len(old_right))
        share = self.shared["momentum"]
        return before * share + along * ((1 - share) * slope)


class Momentum(Factored):
    """The momentum as a direction, whatever the seed: N V' for matrices, the vectors themselves.

    Args:
        family: whose V it is in.
        held: of each tensor's key, N [m, r] or all of a vector.
        scale: of matrices.
    """

    def __init__(self, family: Factored, held: dict[int, Tensor], scale: float) -> None:
        super().__init__(family.rank, family.basis, scale)
        self.family, self.held = family, held
        self.vectors = _Held(held)

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of scale N [m, r], float32."""
        return self.held[tensor.key][first:last] * self.scale

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return V [n, r], float32."""
        return self.family.right(tensor, seed)


class _Held(Directions):
    def __init__(self, held: dict[int, Tensor]) -> None:
        self.held = held

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        out.copy_(self.held[tensor.key][start : start + len(out)])
