"""ZO-Adam: AdamW along estimated gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    t is counted for each tensor: a step that was skipped, or in which it was frozen, is none of its own.

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
        if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
            raise OptimizerError(f"{name}: betas={betas!r}; there are two: (beta1, beta2)")
        for beta in betas:
            check_share(name, "betas", beta)
        check(name, "floor", floor, positive=True)
        check(name, "samples", samples, whole=True)
        own = {"betas": list(betas), "eps": eps, "floor": floor, "samples": int(samples)}
        super().__init__(params, lr, own | moment_settings(name, moments, max(betas)), **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction."""
        seeds = [self.direction_seed(sample) for sample in range(self.shared["samples"])]
        return two_sided(evaluate, self.directions, seeds, self.shared["eps"])

    def update(self, estimate: Estimate) -> Update:
        """Return Adam's descent."""
        shared, tensors = self.shared, self.engine.tensors
        if shared["history"]:
            steps, state = self.remembered(estimate.terms), None
            counts = dict.fromkeys((tensor.key for tensor in tensors), len(steps))
        else:
            steps, state, counts = (estimate.terms,), self.state, self._counts()
            state_of(self, self.directions, tensors, "exp_avg", "exp_avg_sq")
        rule = (steps, tuple(shared["betas"]), shared["floor"], counts, state)
        return AdamUpdate(self.directions, self.rates(), self.rounding_seed(), *rule)

    def _counts(self) -> dict[int, int]:
        """Count this step where moments are kept; return how many each tensor has had, by its key."""
        found: dict[int, int] = {}
        for tensor in self.engine.tensors:
            if self.directions.touches(tensor):
                held = self.state[tensor.param]
                if "count" not in held:
                    # Earlier versions counted steps for all tensors together, and noted those before one came.
                    known = "exp_avg" in held
                    held["count"] = self.shared["updates"] - held.pop("before", 0) if known else 0
                held["count"] += 1
                found[tensor.key] = held["count"]
        return found


@dataclass(frozen=True)
class AdamUpdate(StreamUpdate):
    """Adam's descent, both means moved on by the terms of `steps` one after the other.

    Attributes:
        steps: terms of each step, oldest first.
        betas: shares of m and v that are kept each step.
        floor: added to the root of v.
        counts: of each tensor's key, how many steps m and v are of.
        state: where m and v are, or None where they begin at 0.
    """

    steps: tuple[tuple[Term, ...], ...]
    betas: tuple[float, float]
    floor: float
    counts: Mapping[int, int]
    state: Any

    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return m / (1 - beta1^t) over the root of v / (1 - beta2^t)."""
        if self.state is None:
            like = {"dtype": wide(tensor.param.dtype), "device": tensor.param.device}
            mean, square = (torch.zeros(stop - start, **like) for _ in range(2))
        else:
            held = self.state[tensor.param]
            mean, square = (held[name].view(-1)[start:stop] for name in ("exp_avg", "exp_avg_sq"))
        (first, second), count = self.betas, self.counts[tensor.key]
        for terms in self.steps:
            estimate = estimated(self.directions, terms, tensor, start, stop)
            mean.mul_(first).add_(estimate * (1 - first))
            square.mul_(second).add_(estimate.square_().mul_(1 - second))
        root = (square / (1 - second**count)).sqrt_()
        return mean / (1 - first**count) / root.add_(self.floor)
