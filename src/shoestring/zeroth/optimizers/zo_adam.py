"""ZO-Adam: AdamW along estimated gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params
from shoestring.zeroth.checks import check, check_share
from shoestring.zeroth.history import Moments, Remembering, moment_settings
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.streams import StreamUpdate, estimated, state_of
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("zo-adam")
class ZOAdam(Remembering):
    r"""Adam with decoupled weight decay on the estimate of n-SPSA.

    Step number t, with the mean g over n directions of (L(theta + eps z) - L(theta - eps z)) / (2 eps) z:

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        theta <- (1 - lr weight_decay) theta - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + floor)

    Costs 2n forward passes a step. Memory: `state`, m and v in float32, two numbers a weight (moments="stored"), or
    none: recomputed, both are made again in every step from seeds and coefficients of the last ones, at the price of
    generating that many directions a step; lower beta2 for that.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate; published: 1e-6 to 1e-3.
        betas: (beta1, beta2).
        eps: size of the perturbation.
        floor: added to the root of v, Adam's own epsilon.
        samples: number n of directions a step, all on the same batch.
        moments: "stored"; "recompute", from as many steps as leave out less than 1e-4 (9,206 for 0.999); or a number
            of steps. Equal up to what is left out, where directions do not depend on the weights; the corrections then
            count the steps recomputed.
        common: `weight_decay`, `seed`, `directions`, `engine`, ...: see `ZerothOrder`.

    Raises:
        OptimizerError: for settings that cannot work; while moments are recomputed, for tensors that are added or
            unfrozen after the first step, which have no part in the past.

    Source: Malladi et al. 2023, appendix B.2 (arXiv 2305.17333); Zhang et al. 2024 (arXiv 2402.11592); Loshchilov and
        Hutter 2019, algorithm 2 (arXiv 1711.05101).
    Differs: weight decay acts on the weights (AdamW), as in MeZO's Trainer; in ZO-Bench, as in `torch.optim.Adam`, it
        goes through the moments. The reference stores both moments in the dtype of the weights.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-3,
        floor: float = 1e-8,
        samples: int = 1,
        moments: Moments = "stored",
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        if len(betas) != 2:
            raise OptimizerError(f"{name}: betas={tuple(betas)!r}; there are two: (beta1, beta2)")
        for beta in betas:
            check_share(name, "betas", beta)
        check(name, "floor", floor, positive=True)
        check(name, "samples", samples, whole=True)
        own = {"betas": list(betas), "eps": eps, "floor": floor, "samples": int(samples), "updates": 0}
        super().__init__(params, lr, own | moment_settings(name, moments, max(betas)), **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction."""
        seeds = [self.direction_seed(sample) for sample in range(self.shared["samples"])]
        return two_sided(evaluate, self.directions, seeds, self.shared["eps"])

    def update(self, estimate: Estimate) -> Update:
        """Return Adam's descent."""
        shared = self.shared
        shared["updates"] += 1
        if shared["history"]:
            steps, state = self.remembered(estimate.terms), None
        else:
            steps, state = (estimate.terms,), self.state
            self._begin_moments()
        counted = shared["updates"] if state is not None else len(steps)
        rule = (steps, tuple(shared["betas"]), shared["floor"], counted, state)
        return AdamUpdate(self.directions, self.rates(), self.rounding_seed(), *rule)

    def _begin_moments(self) -> None:
        """Make the moments of tensors that have none; of those that came later, note after how many steps."""
        before = self.shared["updates"] - 1
        late = [tensor.param for tensor in self.engine.tensors if before and tensor.param not in self.state]
        state_of(self, self.directions, self.engine.tensors, "exp_avg", "exp_avg_sq")
        for param in late:
            if param in self.state:
                self.state[param]["before"] = before


@dataclass(frozen=True)
class AdamUpdate(StreamUpdate):
    """Adam's descent, both means moved on by the terms of `steps` one after the other.

    Attributes:
        steps: terms of each step, oldest first.
        betas: shares of m and v that are kept each step.
        floor: added to the root of v.
        count: steps so far; m and v are of as many, less those from before their tensor came.
        state: where m and v are, or None where they begin at 0.
    """

    steps: tuple[tuple[Term, ...], ...]
    betas: tuple[float, float]
    floor: float
    count: int
    state: Any

    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return m / (1 - beta1^t) over the root of v / (1 - beta2^t)."""
        if self.state is None:
            like = {"dtype": wide(tensor.param.dtype), "device": tensor.param.device}
            mean, square = (torch.zeros(stop - start, **like) for _ in range(2))
            count = self.count
        else:
            held = self.state[tensor.param]
            mean, square = (held[name].view(-1)[start:stop] for name in ("exp_avg", "exp_avg_sq"))
            count = self.count - held.get("before", 0)
        first, second = self.betas
        for terms in self.steps:
            estimate = estimated(self.directions, terms, tensor, start, stop)
            mean.mul_(first).add_(estimate * (1 - first))
            square.mul_(second).add_(estimate.square_().mul_(1 - second))
        root = (square / (1 - second**count)).sqrt_()
        return mean / (1 - first**count) / root.add_(self.floor)
