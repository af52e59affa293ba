"""HiZOO: steps scaled by a diagonal of the Hessian, which a third forward pass estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.directions.preconditioned import Preconditioned, Root
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.points import Points
from shoestring.zeroth.smoothing import Smoothing, alpha_at, pieces
from shoestring.zeroth.streams import StreamUpdate, state_of
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("hizoo")
class HiZOO(ZerothOrder):
    r"""Zeroth-order SGD preconditioned by a running diagonal H of the Hessian, ones at first.

    Per step:

        l0 = L(theta)              l+- = L(theta +- eps z / sqrt(H))
        s = |l+ + l- - 2 l0| / (2 eps^2)
        H <- (1 - alpha) H + alpha s H z^2                       (at least `floor`)
        theta <- theta - lr * ( (l+ - l-) / (2 eps) z / sqrt(H)  +  weight_decay * theta )

    The points have the old H, the step the new one. For H that stays, the mean of the estimate is H^-1 times the
    gradient. H estimates no more than the shape of the Hessian's diagonal: E s z^2 contains its trace too, so that H
    grows, and steps shrink, as a whole.

    Costs three forward passes a step. Memory: `state`, H - 1 in float32, one number a weight.

    H - 1 is what is kept, and H moves by alpha (s z^2 - 1) H: near 1, where published smoothings (1e-8) leave it,
    float32 does not hold H (1 - 1e-8 is 1), let alone half precision, while H - 1 holds such increments to 7 digits.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        smoothing: alpha; pairs (first step, alpha from then on); or a name of the reference: "constant0" (MeZO with
            an extra pass, its default), "constant1e-2", "constant1e-4", ..., "constant1e-12", and "constant_decay1",
            1e-6 for 9,800 steps and 1e-8 then. Published runs have "constant1e-8".
        floor: least value of H.
        common: `weight_decay`, `seed`, `directions`, `engine`, ...: see `ZerothOrder`.

    Raises:
        OptimizerError: for settings that cannot work.

    Source: Zhao et al. 2024, algorithm 1 (arXiv 2402.15173).
    Differs: l0 is what is reported; the reference makes a fourth pass after the step for that. Schedules count steps;
        the reference compares steps with a number of epochs. H is in float32 and has a floor; the reference keeps it in
        the dtype of the weights, where alpha = 1e-8 moves none of it in half precision, and does not save it. Held as
        H - 1 in float32, an H far below 1 (losses without curvature for long) sinks no further than 3e-8 / alpha, where
        its moves are lost in rounding, though `floor` may be lower; beside float64 weights it does.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        smoothing: Smoothing = 1e-8,
        floor: float = 1e-8,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "floor", floor, positive=True)
        own = {"eps": eps, "smoothing": pieces(name, smoothing), "floor": floor}
        super().__init__(params, lr, own, **common)

    @property
    def alpha(self) -> float:
        """The smoothing of this step."""
        return alpha_at(self.shared["smoothing"], self.shared["steps"])

    def diagonal(self, param: Tensor) -> Tensor:
        """Return H of a parameter, of its shape; ones before the first step."""
        self._settle()
        held = self.state.get(param, {}).get("excess")
        return torch.ones_like(param, dtype=wide(param.dtype)) if held is None else (1 + held).clamp_(self.floor)

    @property
    def floor(self) -> float:
        """The least value of H."""
        return self.shared["floor"]

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate the weights and both ends of one direction; `extra` is s."""
        eps, seed = self.shared["eps"], self.direction_seed(0)
        points = Points(Preconditioned(self.directions, self.root()), (seed,), ((0.0,), (eps,), (-eps,)))
        middle, plus, minus = evaluate(points)
        slope, curvature = (plus - minus) / (2 * eps), abs(plus + minus - 2 * middle) / (2 * eps**2)
        return Estimate(((seed, slope),), middle, (slope,), curvature)

    def update(self, estimate: Estimate) -> Update:
        """Return descent along z / sqrt(H), which moves H first."""
        state_of(self, self.directions, self.engine.tensors, "excess")
        return self.descent(estimate)

    def root(self) -> Root:
        """Return sqrt(H) as it is when it is asked for."""
        return Diagonal(self.state, self.floor)

    def descent(self, estimate: Estimate, factored: Root | None = None) -> HiZOOUpdate:
        """Return descent along z / sqrt(H); H is moved on the way but where `factored` has its root."""
        ((seed, slope),) = estimate.terms
        common = (self.directions, self.rates(), self.rounding_seed())
        return HiZOOUpdate(*common, seed, slope, estimate.extra, self.alpha, Diagonal(self.state, self.floor), factored)


@dataclass(frozen=True)
class Diagonal:
    """sqrt(H) of what is kept in `state`, where something is."""

    state: Any
    floor: float

    def __call__(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return sqrt(H) of elements start ... stop [n], or None for ones."""
        held = self.state.get(tensor.param, {}).get("excess")
        return None if held is None else (held.view(-1)[start:stop] + 1).clamp_(self.floor).sqrt_()

    def move(self, tensor: Trained, start: int, squares: Tensor, alpha: float) -> None:
        """Move H by alpha (squares - 1) H; `squares` [n] is s z^2 from `start`."""
        excess = self.state[tensor.param]["excess"].view(-1)[start : start + len(squares)]
        excess.add_((squares - 1).mul_(alpha).mul_((excess + 1).clamp_(self.floor)))


@dataclass(frozen=True)
class HiZOOUpdate(StreamUpdate):
    """Descent along slope * z / sqrt(H), H moved first.

    Attributes:
        seed: of z.
        slope: (l+ - l-) / (2 eps).
        curvature: s.
        alpha: smoothing.
        diagonal: H.
        factored: sqrt(H) of tensors whose H has been moved already; it returns None for others.
    """

    seed: int
    slope: float
    curvature: float
    alpha: float
    diagonal: Diagonal
    factored: Root | None

    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return slope * z / sqrt(H)."""
        noise = torch.empty(stop - start, dtype=torch.float32, device=tensor.param.device)
        self.directions.fill(noise, tensor, self.seed, start)
        z = noise.to(wide(tensor.param.dtype))
        root = None if self.factored is None else self.factored(tensor, start, stop)
        if root is None:
            if self.alpha:
                self.diagonal.move(tensor, start, z.square() * self.curvature, self.alpha)
            root = self.diagonal(tensor, start, stop)
        return z * self.slope if root is None else z * self.slope / root
