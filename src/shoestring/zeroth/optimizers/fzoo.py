"""FZOO: many one-sided Rademacher probes, and a step divided by the deviation of their losses."""

from __future__ import annotations

import math
from statistics import pstdev
from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.points import one_sided


@OPTIMIZERS.register("fzoo")
class FZOO(ZerothOrder):
    r"""Batched one-sided estimate, normalised by the standard deviation of the losses.

    Per step, for N directions u of -1 and +1:

        l_0 = L(theta),  l_i = L(theta + eps u_i),  sigma = population standard deviation of l_1 ... l_N
        theta <- theta - lr * ( 1 / (N sigma) * sum_i (l_i - l_0) u_i  +  weight_decay * theta )

    sigma is about eps |gradient|, so the step has the length of a normalised gradient's, lr sqrt(d / N), whatever eps;
    sigma times the estimate over eps is unbiased, the estimate itself is not. Where sigma is 0 (a loss in steps, such
    as accuracy) nothing moves, weight decay included, and the step is counted in `shared["skipped"]` and in its log.

    Costs N + 1 forward passes a step and no memory beyond scratch.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number N of directions, at least 2.
        common: see `ZerothOrder`; `directions` are "rademacher" unless said otherwise.

    Source: Dang et al. 2025, Fast Zeroth-Order Optimizer (arXiv 2506.09034); 1 / eps is left out as in its code.
    """

    def __init__(
        self, params: Params, lr: float = 5e-5, *, eps: float = 1e-4, samples: int = 8, **common: Unpack[Common]
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True, least=2)
        common.setdefault("directions", "rademacher")
        super().__init__(params, lr, {"eps": eps, "samples": int(samples)}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate the weights and one end of every direction; coefficients are differences over N sigma."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = tuple(self.direction_seed(sample) for sample in range(samples))
        first, *others = evaluate(one_sided(self.directions, seeds, eps))
        grads = tuple((loss - first) / eps for loss in others)
        sigma = pstdev(others)
        if sigma == 0 or not math.isfinite(sigma):
            return Estimate((), first, grads, skipped=True)
        terms = tuple((seed, (loss - first) / (samples * sigma)) for seed, loss in zip(seeds, others, strict=True))
        return Estimate(terms, first, grads)
