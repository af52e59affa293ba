"""The slope of the loss along directions, from its difference between both ends."""

from __future__ import annotations

from collections.abc import Sequence

from shoestring.zeroth.base import Estimate, Evaluate
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.points import both_ends


def two_sided(evaluate: Evaluate, directions: Directions, seeds: Sequence[int], eps: float) -> Estimate:
    """Return the mean over directions of g z, g = (L(theta + eps z) - L(theta - eps z)) / (2 eps).

    The loss reported is the mean of those evaluated, two a direction.

    Source: Spall 1992; Malladi et al. 2023, definition 1 (arXiv 2305.17333).
    """
    pairs = [evaluate(both_ends(directions, seed, eps)) for seed in seeds]
    grads = tuple((plus - minus) / (2 * eps) for plus, minus in pairs)
    terms = tuple((seed, grad / len(seeds)) for seed, grad in zip(seeds, grads, strict=True))
    losses = [loss for pair in pairs for loss in pair]
    return Estimate(terms, sum(losses) / len(losses), grads)
