"""ZO-momentum: SGD with momentum along estimated gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params
from shoestring.zeroth.checks import check, check_share
from shoestring.zeroth.history import Moments, Remembering, moment_settings
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.streams import StreamUpdate, estimated, state_of
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("zo-momentum")
class ZOMomentum(Remembering):
    r"""SGD with momentum on the estimate of n-SPSA.

    Per step, with the mean g over n directions of (L(theta + eps z) - L(theta - eps z)) / (2 eps) z:

        m <- momentum m + g
        theta <- (1 - lr weight_decay) theta - lr m

    Costs 2n forward passes a step. Memory: `state`, m in float32, one number a weight (moments="stored"), or none:
    recomputed, m is made again in every step from seeds and coefficients of the last ones, at the price of generating
    that many directions a step.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate; a gradient counts 1 / (1 - momentum) times in all.
        momentum: beta.
        eps: size of the perturbation.
        samples: number n of directions a step, all on the same batch.
        moments: "stored"; "recompute", from as many steps as leave out less than 1e-4 (88 for 0.9); or a number of
            steps. Equal up to what is left out, where directions do not depend on the weights.
        common: `weight_decay`, `seed`, `directions`, `engine`, ...: see `ZerothOrder`.

    Raises:
        OptimizerError: for settings that cannot work; while moments are recomputed, for tensors that are added or
            unfrozen after the first step, which have no part in the past.

    Source: Zhang et al. 2024, ZO-SGD-MMT (arXiv 2402.11592); moments from the history: Malladi et al. 2023, appendix
        B.2 (arXiv 2305.17333).
    Differs: weight decay acts on the weights; in ZO-Bench, as in `torch.optim.SGD`, it goes through the momentum.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-7,
        *,
        momentum: float = 0.9,
        eps: float = 1e-3,
        samples: int = 1,
        moments: Moments = "stored",
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check_share(name, "momentum", momentum)
        check(name, "samples", samples, whole=True)
        own = {"momentum": momentum, "eps": eps, "samples": int(samples)}
        super().__init__(params, lr, own | moment_settings(name, moments, momentum), **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction."""
        seeds = [self.direction_seed(sample) for sample in range(self.shared["samples"])]
        return two_sided(evaluate, self.directions, seeds, self.shared["eps"])

    def update(self, estimate: Estimate) -> Update:
        """Return descent along the momentum."""
        steps = (estimate.terms,)
        if self.shared["history"]:
            steps = self.remembered(estimate.terms)
        else:
            state_of(self, self.directions, self.engine.tensors, "momentum")
        state = None if self.shared["history"] else self.state
        common = (self.directions, self.rates(), self.rounding_seed())
        return MomentumUpdate(*common, steps, self.shared["momentum"], state)


@dataclass(frozen=True)
class MomentumUpdate(StreamUpdate):
    """Descent along m, moved on by the terms of `steps` one after the other.

    Attributes:
        steps: terms of each step, oldest first.
        share: of m that is kept each step.
        state: where m is, or None where it begins at 0.
    """

    steps: tuple[tuple[Term, ...], ...]
    share: float
    state: Any

    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return m."""
        if self.state is None:
            mean = torch.zeros(stop - start, dtype=wide(tensor.param.dtype), device=tensor.param.device)
        else:
            mean = self.state[tensor.param]["momentum"].view(-1)[start:stop]
        for terms in self.steps:
            mean.mul_(self.share).add_(estimated(self.directions, terms, tensor, start, stop))
        return mean
