"""1.5-SPSA: directions of strong curvature count less."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.points import Points, both_ends


@OPTIMIZERS.register("1.5-spsa")
class CurvatureSPSA(ZerothOrder):
    r"""n-SPSA whose terms are weighted by the curvature along their own directions.

    Per step, for n directions z:

        g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)
        c = (L(theta + eps z) - 2 L(theta) + L(theta - eps z)) / eps^2
        w = 1 / max(1, |c|^power)
        theta <- theta - lr * ( mean over directions of w g z  +  weight_decay * theta )

    The weights depend on the directions, so the estimate is shrunk along those of strong curvature: it is the
    gradient times w where c is the same for all. Needs eps large enough that c is more than rounding error, about
    machine precision * |L| / eps^2.

    Costs 2n + 1 forward passes a step and no memory beyond scratch.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions.
        power: of the curvature, in the weights; 0 makes it n-SPSA.
        common: see `ZerothOrder`; `directions` are "rademacher" unless said otherwise.

    Source: the estimator published as 1.5-SPSA, between SPSA and its second-order form (Spall 1992 and 2000).
    Differs: the published step is the mean of (L+ - L-) w z / 2, without a learning rate; it is this one with lr = eps.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        power: float = 0.1,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check(name, "power", power)
        common.setdefault("directions", "rademacher")
        super().__init__(params, lr, {"eps": eps, "samples": int(samples), "power": power}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate the weights once and both ends of every direction."""
        eps, samples, power = self.shared["eps"], self.shared["samples"], self.shared["power"]
        terms, grads, middle = [], [], 0.0
        for sample in range(samples):
            seed = self.direction_seed(sample)
            if sample == 0:
                middle, plus, minus = evaluate(Points(self.directions, (seed,), ((0.0,), (eps,), (-eps,))))
            else:
                plus, minus = evaluate(both_ends(self.directions, seed, eps))
            grad, curvature = (plus - minus) / (2 * eps), (plus - 2 * middle + minus) / eps**2
            terms.append((seed, grad / max(1.0, abs(curvature) ** power) / samples))
            grads.append(grad)
        return Estimate(tuple(terms), middle, tuple(grads))
