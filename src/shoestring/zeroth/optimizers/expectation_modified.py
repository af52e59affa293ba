"""Expectation-modified MeZO: it estimates the gradient with every layer's part divided by a norm."""

from __future__ import annotations

from shoestring.zeroth.base import OPTIMIZERS, Estimate, ZerothOrder
from shoestring.zeroth.optimizers.variance_modified import VarianceModifiedMeZO
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("expectation-modified-mezo")
class ExpectationModifiedMeZO(VarianceModifiedMeZO):
    r"""MeZO that descends along the gradient divided, layer by layer, by a scale c.

    Per step, for each of n directions z:

        g = (L(theta + eps z / c) - L(theta - eps z / c)) / (2 eps)
        theta <- theta - lr * ( mean over directions of g z  +  weight_decay * theta )

    E g z = gradient / c: with gradient norms for c, every layer moves by about the same length. Settings, scales,
    forward passes and memory are those of `VarianceModifiedMeZO`.

    Source: Malladi et al. 2023, definition 7 and appendix B (arXiv 2305.17333).
    """

    def update(self, estimate: Estimate) -> Update:
        """Descend along the slopes times the directions as they are."""
        return ZerothOrder.update(self, estimate)
