"""Evolution strategies: a population around the weights, weighted by rewards made comparable."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal, Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_choice
from shoestring.zeroth.points import Points, both_ends


@OPTIMIZERS.register("evolution")
class EvolutionStrategies(ZerothOrder):
    r"""Evolution strategies with a fixed perturbation size.

    Per step, for N directions z, with reward R = -L and its shape F (z-scores or centered ranks, over the population):

        theta <- theta + lr * ( 1/N sum_n F(R(theta + eps z_n)) z_n  -  weight_decay * theta )
        theta <- theta + lr * ( 1/2N sum_n (F(R(theta + eps z_n)) - F(R(theta - eps z_n))) z_n  -  ... )   antithetic

    Conventions: there is no 1/eps (the paper's sigma) in front, as in Qiu et al. 2025; Salimans et al. 2017 write
    lr / (N sigma) sum F z, which is this with their lr over eps. Z-scores are (R - mean) / (deviation + 1e-8), ranks
    run from -0.5 for the worst to 0.5 for the best, and equal rewards share a rank. Shapes do not change when the
    reward is scaled or moved (ranks: when it is transformed monotonically), so the step's length is that of a
    normalised gradient. Times the deviation over eps, the z-scored estimate is unbiased up to the factor (N - 1)/N,
    since the mean it subtracts contains each member; with antithetic pairs the mean cancels, and it is unbiased.

    The slopes that are reported are of the losses: between both ends, or against the mean of the population.

    Costs N forward passes a step, antithetic 2N, and no memory beyond scratch. Any reward does: nothing is
    differentiated. Where all rewards are equal only the weight decay moves the weights.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate, the papers' alpha.
        eps: size of the perturbation, the papers' sigma.
        samples: number N of directions, at least 2.
        antithetic: evaluate both ends of each direction.
        shape: "z-score" or "rank".
        common: see `ZerothOrder`.

    Source: Qiu et al. 2025, Evolution Strategies at Scale (arXiv 2509.24372); ranks and antithetic pairs: Salimans
        et al. 2017 (arXiv 1703.03864).
    Differs: the reference uses one seed for all tensors, which makes their directions alike; here every tensor
        has its own numbers. Equal rewards share their mean rank, so that ties do not move the weights.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 5e-4,
        *,
        eps: float = 1e-3,
        samples: int = 30,
        antithetic: bool = False,
        shape: Literal["z-score", "rank"] = "z-score",
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True, least=2)
        check_choice(name, "shape", shape, ("z-score", "rank"))
        own = {"samples": int(samples), "antithetic": bool(antithetic), "shape": shape}
        super().__init__(params, lr, {"eps": eps, **own}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate the population; coefficients are minus the shaped rewards over its size."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = tuple(self.direction_seed(sample) for sample in range(samples))
        if self.shared["antithetic"]:
            losses = [loss for seed in seeds for loss in evaluate(both_ends(self.directions, seed, eps))]
        else:
            rows = tuple(tuple(eps if i == j else 0.0 for j in range(samples)) for i in range(samples))
            losses = evaluate(Points(self.directions, seeds, rows))
        mean = fmean(losses)
        if self.shared["antithetic"]:
            grads = tuple((plus - minus) / (2 * eps) for plus, minus in zip(losses[::2], losses[1::2], strict=True))
        else:
            grads = tuple((loss - mean) / eps for loss in losses)
        shapes = (z_scores if self.shared["shape"] == "z-score" else ranks)([-loss for loss in losses])
        if self.shared["antithetic"]:
            shapes = [(plus - minus) / 2 for plus, minus in zip(shapes[::2], shapes[1::2], strict=True)]
        terms = tuple((seed, -shape / samples) for seed, shape in zip(seeds, shapes, strict=True))
        return Estimate(terms, mean, grads)


def z_scores(rewards: Sequence[float]) -> list[float]:
    """Return (reward - mean) / (population standard deviation + 1e-8).

    >>> [round(score, 6) for score in z_scores([1.0, 3.0])]
    [-1.0, 1.0]
    """
    mean, deviation = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / (deviation + 1e-8) for reward in rewards]


def ranks(rewards: Sequence[float]) -> list[float]:
    """Return ranks from -0.5, the least, to 0.5; equal rewards get the mean of their ranks.

    >>> ranks([5.0, 1.0, 1.0])
    [0.5, -0.25, -0.25]
    """
    ordered = sorted(rewards)
    found: dict[float, list[int]] = {}
    for place, reward in enumerate(ordered):
        found.setdefault(reward, []).append(place)
    return [fmean(found[reward]) / (len(rewards) - 1) - 0.5 for reward in rewards]
