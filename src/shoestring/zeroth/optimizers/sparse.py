"""Sparse-MeZO: MeZO on the small weights only."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_share
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.engines.guards import listed
from shoestring.zeroth.masks import Bits, pack_bits
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update

_LOG = logging.getLogger(__name__)


@OPTIMIZERS.register("sparse-mezo")
class SparseMeZO(ZerothOrder):
    r"""MeZO that perturbs and moves the weights of small magnitude.

    Before the first step, for each tensor: h = the (1 - sparsity) quantile of |theta|. Then per step:

        m = [ |theta| <= h ],  of the unperturbed weights
        g = (L(theta + eps m z) - L(theta - eps m z)) / (2 eps)
        theta <- theta - lr * m * ( mean over n directions of g z  +  weight_decay * theta )

    Unbiased for the gradient in the chosen weights. The others are not written at all: neither perturbed, nor moved,
    nor decayed. A weight that grows beyond h stays there, one that is chosen may leave.

    Costs 2n forward passes a step, a pass over the weights to note the mask (so that what an engine has put off is
    applied first), and one bit a weight. The thresholds are numbers in the parameter groups.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions.
        sparsity: share of the weights of every tensor that is left alone, at the beginning.
        common: see `ZerothOrder`.

    Source: Liu et al. 2024, Sparse MeZO (arXiv 2402.15751).
    Differs: the k-th chosen weight of a tensor gets the k-th number of a direction, so that as many are made as
        weights move. A tensor whose magnitudes do not tell its weights apart is trained whole, and said to be so once:
        one whose h is 0 (B of LoRA, biases that begin at 0), which would move all its zeros in the first step and
        nothing ever after; and one where more than half of the magnitudes are h (norms that begin at 1).
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        sparsity: float = 0.75,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check_share(name, "sparsity", sparsity)
        own = {"eps": eps, "samples": int(samples), "sparsity": sparsity, "thresholds": None}
        super().__init__(params, lr, own, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Note which weights are small; evaluate both ends of every direction in them."""
        # Engines move weights in place and put updates off: the mask is noted while the weights are as they should be.
        self.engine.finalize()
        tensors = self.engine.tensors
        limits: dict[str, float] = self.shared["thresholds"] or {}
        added = [tensor for tensor in tensors if tensor.name not in limits]
        if added:
            limits = self.shared["thresholds"] = limits | self._limits(added)
        masks = {tensor.name: Bits(pack_bits(tensor.flat.abs() <= limits[tensor.name])) for tensor in tensors}
        masked = Masked(self.directions, masks)
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        return replace(two_sided(evaluate, masked, seeds, eps), extra=masked)

    def update(self, estimate: Estimate) -> Update:
        """Descend along the estimate, in the weights that were small when it was made."""
        return TermsUpdate(estimate.extra, estimate.terms, self.rates(), self.rounding_seed())

    def _limits(self, tensors: Sequence[Trained]) -> dict[str, float]:
        """Return the limits of tensors that have none yet; say which are trained whole."""
        share = 1 - self.shared["sparsity"]
        found = {tensor.name: limit(tensor.param, share) for tensor in tensors}
        whole = [name for name, most in found.items() if most == math.inf]
        if whole:
            _LOG.warning(
                "Sparse-MeZO trains %d of %d tensors whole, since so many of their weights are 0 or alike that size "
                "does not choose among them: %s",
                len(whole),
                len(found),
                listed(whole),
            )
        return found


def limit(param: Tensor, share: float) -> float:
    """Return the magnitude up to which elements are chosen: `threshold`, or infinity where that is no choice.

    It is none at 0, since a weight that has moved once is above it for good, nor where most elements have it.

    >>> import torch
    >>> limit(torch.zeros(4), 0.5), limit(torch.tensor([4.0, -1.0, 2.0, -3.0]), 0.5)
    (inf, 2.0)
    """
    found, count = threshold(param, share), param.numel()
    alike = int((param.detach().abs() == found).sum())
    return math.inf if count and (found == 0 or 2 * alike > count) else found


def threshold(param: Tensor, share: float) -> float:
    """Return the least h such that at least `share` of the elements, and one at least, have |theta| <= h.

    0 where there are no elements.

    >>> import torch
    >>> threshold(torch.tensor([4.0, -1.0, 2.0, -3.0]), 0.5)
    2.0
    """
    flat = param.detach().reshape(-1).abs()
    if not len(flat):
        return 0.0
    return float(flat.kthvalue(max(1, min(len(flat), round(share * len(flat))))).values)
