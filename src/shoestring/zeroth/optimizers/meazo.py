"""MEAZO: one running second moment of the slopes, a single number, in place of Adam's one per weight."""

from __future__ import annotations

import math
from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_share
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("meazo")
class MEAZO(ZerothOrder):
    r"""n-SPSA divided by the root of a running mean of its squared slopes.

    Per step k = 1, 2, ... that is not skipped, for n directions z:

        g_j = (L(theta + eps z_j) - L(theta - eps z_j)) / (2 eps)
        v <- beta v + (1 - beta) * (mean of g_j)^2,   v_hat = v / (1 - beta^k)
        theta <- theta - lr * ( mean of g_j z_j / (sqrt(v_hat) + floor)  +  weight_decay * theta )

    (mean of g_j)^2 is |gradient|^2 / n in expectation, so the step is a normalised gradient's whatever the scale of the
    loss, and sqrt(n) times as long. v contains the slopes it divides, so the quotient is bounded (in the first step of
    one direction it is the sign of the slope) and not unbiased; the estimate that it divides is.

    Costs 2n forward passes a step and two numbers of memory, kept in the parameter groups.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate, the length of a step over sqrt(number of weights).
        eps: size of the perturbation.
        samples: number n of directions.
        beta: memory of the running mean.
        floor: added to the root.
        common: see `ZerothOrder`.

    Source: Dbouk et al. 2026, On Adaptivity in Zeroth-Order Optimization (arXiv 2605.03869).
    Differs: the correction of the bias counts the first step as k = 1, as Adam does.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        beta: float = 0.99,
        floor: float = 1e-8,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check_share(name, "beta", beta)
        check(name, "floor", floor, positive=True)
        own = {"eps": eps, "samples": int(samples), "beta": beta, "floor": floor}
        super().__init__(params, lr, {**own, "second_moment": 0.0, "moment_steps": 0}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction; the terms are the mean of slope times direction."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        return two_sided(evaluate, self.directions, seeds, eps)

    def update(self, estimate: Estimate) -> Update:
        """Take the slopes into the running mean; descend along the estimate over its root."""
        shared, grads = self.shared, estimate.projected_grads
        beta = shared["beta"]
        mean = sum(grads) / len(grads)
        shared["second_moment"] = beta * shared["second_moment"] + (1 - beta) * mean * mean
        shared["moment_steps"] += 1
        root = math.sqrt(shared["second_moment"] / (1 - beta ** shared["moment_steps"]))
        terms = tuple((seed, coefficient / (root + shared["floor"])) for seed, coefficient in estimate.terms)
        return TermsUpdate(self.directions, terms, self.rates(), self.rounding_seed())
