"""Forward gradient: the slope along a random direction by forward-mode differentiation."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.engines.tangents import slope


@OPTIMIZERS.register("forward-gradient")
class ForwardGradient(ZerothOrder):
    r"""SGD on the forward gradient: MeZO's estimate in the limit of no perturbation.

    Per step, for each of n directions z:

        g = gradient' z, by one Jacobian-vector product
        theta <- theta - lr * ( mean over directions of g z  +  weight_decay * theta )

    Unbiased, for any differentiable loss; the baseline that tells what finite differences cost. Not for losses such as
    accuracy, which it refuses.

    Costs n dual forward passes a step, each about two or three plain ones, a copy of the trained weights for z and a
    tangent for every activation alive. The closure must compute its loss with torch from the parameters themselves,
    without detaching it; fused attention has no tangents, so that attention is computed plainly. The weights are never
    moved to be evaluated; no engine has a part in it but for putting off updates.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        samples: number n of directions.
        common: see `ZerothOrder`.

    Source: Baydin et al. 2022, Gradients without Backpropagation (arXiv 2202.08587), equation 2.
    """

    def __init__(self, params: Params, lr: float = 1e-6, *, samples: int = 1, **common: Unpack[Common]) -> None:
        check(type(self).__name__, "samples", samples, whole=True)
        super().__init__(params, lr, {"samples": int(samples)}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Find the slope along every direction; the terms are the mean of slope times direction."""
        samples, tensors = self.shared["samples"], self.engine.tensors
        self.engine.finalize()
        terms, grads, loss = [], [], 0.0
        for sample in range(samples):
            seed = self.direction_seed(sample)
            self.last_passes += 1
            loss, grad = self.measure(2, lambda closure, seed=seed: slope(closure, tensors, self.directions, seed))
            terms.append((seed, grad / samples))
            grads.append(grad)
        return Estimate(tuple(terms), loss, tuple(grads))
