"""Conservative ZO-SGD: try the step and its opposite, and go where the loss is least."""

from __future__ import annotations

from typing import Literal, Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check_choice
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.points import Points, both_ends


@OPTIMIZERS.register("zo-conservative")
class ZOConservative(ZerothOrder):
    r"""ZO-SGD that takes the best of theta, theta - lr d and theta + lr d.

    Per step, for one direction z:

        g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)      or, one-sided, (L(theta + eps z) - L(theta)) / eps
        d = g z
        theta <- argmin of L over theta, theta - lr d, theta + lr d;  weight decay comes on top, whichever it is

    Of equal losses the first is taken, so that it stays where nothing is gained. The choice is of the batch's loss: the
    loss of a fixed batch never rises (without weight decay). Not unbiased: steps that raise the loss are left out.

    Costs 5 forward passes a step, one-sided 4, and no memory beyond scratch; 2 where g is 0.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        sides: 2, or 1, which uses L(theta) for the slope too.
        common: see `ZerothOrder`.

    Source: Zhang et al. 2024, ZO-SGD-Cons (arXiv 2402.11592), after Kim et al. 2021.
    Differs: where g is 0 the three are one point, and the reference's last three passes are left out. The weights are
        not moved to be compared: only the chosen step reaches them.
    """

    def __init__(
        self, params: Params, lr: float = 1e-6, *, eps: float = 1e-3, sides: Literal[1, 2] = 2, **common: Unpack[Common]
    ) -> None:
        check_choice(type(self).__name__, "sides", sides, (1, 2))
        super().__init__(params, lr, {"eps": eps, "sides": sides}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate a slope, then the loss here and at both steps along it; keep the best."""
        eps, seed = self.shared["eps"], self.direction_seed(0)
        here = None
        if self.shared["sides"] == 2:
            plus, minus = evaluate(both_ends(self.directions, seed, eps))
            grad, loss = (plus - minus) / (2 * eps), (plus + minus) / 2
        else:
            loss, plus = evaluate(Points(self.directions, (seed,), ((0.0,), (eps,))))
            grad, here = (plus - loss) / eps, loss
        if grad == 0:
            return Estimate((), loss, (grad,))
        # Groups differ in lr: the step is the direction scaled by it, tensor by tensor.
        rates = self.rates()
        steps = Scaled(self.directions, {tensor.name: rates[tensor.group].lr for tensor in self.engine.tensors})
        rows = ((-grad,), (grad,))
        found = evaluate(Points(steps, (seed,), rows if here is not None else ((0.0,), *rows)))
        losses = found if here is None else [here, *found]
        factor = (0.0, grad, -grad)[losses.index(min(losses))]
        return Estimate(((seed, factor),) if factor else (), losses[0], (grad,))
