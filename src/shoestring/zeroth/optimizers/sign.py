"""ZO-sign: steps of one length, by the sign of the slope or of every coordinate of the estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Unpack

from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_choice
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.streams import StreamUpdate, estimated
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("zo-sign")
class ZOSign(ZerothOrder):
    r"""Sign descent with a zeroth-order estimate.

    Per step, for each of n directions z, with g = (L(theta + eps z) - L(theta - eps z)) / (2 eps):

        of="projected-grad":  theta <- theta - lr * ( mean over directions of sign(g) z  +  weight_decay * theta )
        of="estimate":        theta <- theta - lr * ( sign( mean over directions of g z )  +  weight_decay * theta )

    The first is the gradient's direction in expectation, whatever the size of the loss, times sqrt(2 / pi) for Gaussian
    z; the second moves every weight by lr. Of one Rademacher direction they are the same. Neither is unbiased.

    Costs 2n forward passes a step and no memory beyond scratch.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions.
        of: what the sign is taken of.
        common: see `ZerothOrder`.

    Source: Zhang et al. 2024, ZO-SGD-Sign (arXiv 2402.11592): "estimate" is the paper's text, after Liu et al. 2019,
        signSGD via zeroth-order oracle; "projected-grad" its code.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        of: Literal["projected-grad", "estimate"] = "projected-grad",
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check_choice(name, "of", of, ("projected-grad", "estimate"))
        super().__init__(params, lr, {"eps": eps, "samples": int(samples), "of": of}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction; the terms are the mean of slope, or its sign, times direction."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        found = two_sided(evaluate, self.directions, seeds, eps)
        if self.shared["of"] == "estimate":
            return found
        return replace(
            found, terms=tuple((seed, math.copysign(1 / samples, g) if g else 0.0) for seed, g in found.terms)
        )

    def update(self, estimate: Estimate) -> Update:
        """Descend along the terms, or along the sign of their sum."""
        if self.shared["of"] == "estimate":
            return SignUpdate(self.directions, self.rates(), self.rounding_seed(), estimate.terms)
        return super().update(estimate)


@dataclass(frozen=True)
class SignUpdate(StreamUpdate):
    """theta <- (1 - lr weight_decay) theta - lr * sign(sum over terms of coefficient * z(seed)).

    Attributes:
        terms: seeds and coefficients, the estimate of the gradient.
    """

    terms: Sequence[Term] = ()

    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return the signs of elements start ... stop of the estimate [n]."""
        return estimated(self.directions, self.terms, tensor, start, stop).sign()
