"""MeZO: stochastic gradient descent on a gradient estimated from two forward passes, in the memory of inference."""

from __future__ import annotations

from typing import Literal, Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_choice
from shoestring.zeroth.points import both_ends, one_sided


@OPTIMIZERS.register("mezo")
class MeZO(ZerothOrder):
    r"""Memory-efficient zeroth-order SGD (n-SPSA).

    Per step, on one batch, for each of n directions z:

        projected_grad g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)      two-sided
                       g = (L(theta + eps z) - L(theta)) / eps                  one-sided
        theta <- theta - lr * ( mean over directions of g z  +  weight_decay * theta )

    Costs 2n forward passes a step (one-sided: n + 1) and no memory beyond scratch.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.ones(8))
        >>> opt = MeZO([w], lr=0.05, eps=1e-3, seed=0)
        >>> losses = [float(opt.step(lambda: (w ** 2).sum())) for _ in range(60)]
        >>> losses[-1] < 0.1 * losses[0]
        True

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions a step, all on the same batch.
        sides: 2, or 1: cheaper for n > 1, with an error of order eps where the two-sided slope has eps^2.
        scale_lr: sum over directions instead of their mean: lr grows with n.
        grow_over: None: n is constant. A number T of steps: the linear schedule, in step t = 0, 1, ...
            n = max(1, floor(t / T * samples)), and `samples` from step T on.
        common: `weight_decay`, `seed`, `directions`, `engine`, ...: see `ZerothOrder`.

    The model must be deterministic while it steps: `model.eval()`, no dropout. The closure returns the loss and calls
    no `backward()`; it is run under `torch.no_grad()`. The step counter lives in the parameter groups, so `state_dict`
    carries all that an exact resume needs.

    Source: Malladi et al. 2023, algorithm 1, definition 1 and appendix B (arXiv 2305.17333).
    Differs: returns the mean of the losses evaluated, the reference L(theta + eps z) of the last direction. Weight
        decay applies to every parameter of a group with weight_decay > 0; the reference exempts names with `bias` or
        `layer_norm` in one of its two code bases and nothing in the other. One-sided, L(theta) is evaluated once for
        all directions.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        sides: Literal[1, 2] = 2,
        scale_lr: bool = False,
        grow_over: int | None = None,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check_choice(name, "sides", sides, (1, 2))
        if grow_over is not None:
            check(name, "grow_over", grow_over, whole=True)
        own = {"samples": int(samples), "sides": sides, "scale_lr": bool(scale_lr), "grow_over": grow_over}
        super().__init__(params, lr, {"eps": eps, **own}, **common)

    @property
    def samples(self) -> int:
        """Number of directions of the coming step."""
        most, over = self.shared["samples"], self.shared["grow_over"]
        return most if over is None else max(1, min(most, self.shared["steps"] * most // int(over)))

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate the ends of every direction; the terms are the mean (or sum) of slope times direction."""
        eps, samples = self.shared["eps"], self.samples
        seeds = tuple(self.direction_seed(sample) for sample in range(samples))
        if self.shared["sides"] == 1:
            losses = evaluate(one_sided(self.directions, seeds, eps))
            grads = [(loss - losses[0]) / eps for loss in losses[1:]]
        else:
            pairs = [evaluate(both_ends(self.directions, seed, eps)) for seed in seeds]
            grads = [(plus - minus) / (2 * eps) for plus, minus in pairs]
            losses = [loss for pair in pairs for loss in pair]
        share = 1 if self.shared["scale_lr"] else samples
        terms = tuple((seed, grad / share) for seed, grad in zip(seeds, grads, strict=True))
        return Estimate(terms, sum(losses) / len(losses), tuple(grads))
