"""One-point residual feedback: one forward pass a step, the last step's loss standing in for the second one."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.points import Points
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("one-point")
class OnePointMeZO(ZerothOrder):
    r"""SGD on the one-point residual estimate.

    Step t, on its own batch:

        projected_grad g_t = (L_t(theta_t + eps z_t) - L_{t-1}(theta_{t-1} + eps z_{t-1})) / eps
        theta_{t+1} = theta_t - lr * (g_t z_t + weight_decay * theta_t)

    The loss of the last step does not depend on z_t, so E g_t z_t is the gradient (of the loss smoothed over eps), but
    its variance carries the change of the loss from batch to batch, over eps^2.

    Costs one forward pass a step and no memory beyond scratch. The last loss is a number in the parameter groups. The
    first step has nothing to subtract: it notes its loss and applies the weight decay alone. A step that is skipped
    since its loss is not finite leaves the noted loss as it was.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate; the paper needs one far below MeZO's.
        eps: size of the perturbation.
        common: see `ZerothOrder`.

    Source: Malladi et al. 2023, definition 8 (arXiv 2305.17333), after Zhang et al. 2022.
    """

    def __init__(self, params: Params, lr: float = 1e-7, *, eps: float = 1e-3, **common: Unpack[Common]) -> None:
        super().__init__(params, lr, {"eps": eps, "last": None}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate one end of one direction; the slope is taken from the last step's loss."""
        eps, last = self.shared["eps"], self.shared["last"]
        seed = self.direction_seed(0)
        (loss,) = evaluate(Points(self.directions, (seed,), ((eps,),)))
        if last is None:
            return Estimate((), loss)
        grad = (loss - last) / eps
        return Estimate(((seed, grad),), loss, (grad,))

    def update(self, estimate: Estimate) -> Update:
        """Note the loss for the next step; descend along the estimate."""
        self.shared["last"] = estimate.loss
        return super().update(estimate)
