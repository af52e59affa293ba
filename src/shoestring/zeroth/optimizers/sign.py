"""ZO-sign: steps of one length, by the sign of the slope or of every coordinate of the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Unpack

import torch

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder, check, check_choice
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.noise.plain import wide, write
from shoestring.zeroth.points import both_ends
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Rate, TermsUpdate, Update

_CHUNK = 1 << 18


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
        pairs = [evaluate(both_ends(self.directions, seed, eps)) for seed in seeds]
        grads = tuple((plus - minus) / (2 * eps) for plus, minus in pairs)
        factors = grads if self.shared["of"] == "estimate" else [float((grad > 0) - (grad < 0)) for grad in grads]
        terms = tuple((seed, factor / samples) for seed, factor in zip(seeds, factors, strict=True))
        return Estimate(terms, sum(map(sum, pairs)) / (2 * samples), grads)

    def update(self, estimate: Estimate) -> Update:
        """Descend along the terms, or along the sign of their sum."""
        kind = SignUpdate if self.shared["of"] == "estimate" else TermsUpdate
        return kind(self.directions, estimate.terms, self.rates(), self.rounding_seed())


@dataclass(frozen=True)
class SignUpdate:
    """theta <- (1 - lr weight_decay) theta - lr * sign(sum over terms of coefficient * z(seed)).

    Attributes:
        directions: the family z comes from.
        terms: seeds and coefficients, the estimate of the gradient.
        rates: of each parameter group.
        rounding: seed of stochastic rounding, or None.
    """

    directions: Directions
    terms: Sequence[Term]
    rates: Sequence[Rate]
    rounding: int | None = None

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        """Move elements start ... stop of `tensor`, seen as one axis."""
        rate = self.rates[tensor.group]
        keep = 1 - rate.lr * rate.weight_decay
        if not self.directions.touches(tensor):
            self.directions.add(tensor.flat[start:stop], tensor, [], start, keep, self.rounding)
            return
        for begin in range(start, stop, _CHUNK):
            end = min(begin + _CHUNK, stop)
            part = tensor.flat[begin:end]
            z = torch.empty(len(part), device=part.device)
            estimate = torch.zeros(len(part), device=part.device, dtype=wide(part.dtype))
            for seed, coefficient in self.terms:
                self.directions.fill(z, tensor, seed, begin)
                estimate += z.to(estimate.dtype) * coefficient
            moved = part.clone()
            write(moved, part.to(estimate.dtype) * keep - rate.lr * estimate.sign(), tensor.key, begin, self.rounding)
            chosen = self.directions.chosen(tensor, begin, end)
            part.copy_(moved if chosen is None else torch.where(chosen, moved, part))
