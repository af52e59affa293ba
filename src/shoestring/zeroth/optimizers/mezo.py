"""MeZO: stochastic gradient descent on a gradient estimated from two forward passes, in the memory of inference."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder, check
from shoestring.zeroth.points import both_ends


@OPTIMIZERS.register("mezo")
class MeZO(ZerothOrder):
    r"""Memory-efficient zeroth-order SGD (n-SPSA).

    Per step, on one batch, for each of n directions z:

        projected_grad g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)
        theta <- theta - lr * ( mean over directions of g z  +  weight_decay * theta )

    Costs 2n forward passes a step and no memory beyond scratch.

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
        common: `weight_decay`, `seed`, `directions`, `engine`, ...: see `ZerothOrder`.

    The model must be deterministic while it steps: `model.eval()`, no dropout. The closure returns the loss and calls
    no `backward()`; it is run under `torch.no_grad()`. The step counter lives in the parameter groups, so `state_dict`
    carries all that an exact resume needs.

    Source: Malladi et al. 2023, algorithm 1 and definition 1 (arXiv 2305.17333).
    Differs: returns the mean of L(theta + eps z) and L(theta - eps z) over directions, the reference L(theta + eps z)
        of the last direction. Weight decay applies to every parameter of a group with weight_decay > 0; the reference
        exempts names with `bias` or `layer_norm` in one of its two code bases and nothing in the other.
    """

    def __init__(
        self, params: Params, lr: float = 1e-6, *, eps: float = 1e-3, samples: int = 1, **common: Unpack[Common]
    ) -> None:
        check(type(self).__name__, "samples", samples, whole=True)
        super().__init__(params, lr, {"eps": eps, "samples": int(samples)}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction; the terms are the mean of slope times direction."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        terms, grads, losses = [], [], []
        for sample in range(samples):
            seed = self.direction_seed(sample)
            plus, minus = evaluate(both_ends(self.directions, seed, eps))
            grad = (plus - minus) / (2 * eps)
            terms.append((seed, grad / samples))
            grads.append(grad)
            losses += [plus, minus]
        return Estimate(tuple(terms), sum(losses) / len(losses), tuple(grads))
