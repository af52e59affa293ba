"""MeZO on a fixed, sparse choice of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.masks import at_random, checked, unpacked
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.tensors import trained_tensors
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("static-mask")
class StaticMaskMeZO(ZerothOrder):
    r"""MeZO on chosen weights, all others as if frozen.

    Per step, with masks m that never change:

        g = (L(theta + eps m z) - L(theta - eps m z)) / (2 eps)
        theta <- theta - lr * m * ( mean over n directions of g z  +  weight_decay * theta )

    Unbiased for the gradient in the chosen weights. The others are not written at all: neither perturbed, nor moved,
    nor decayed.

    Costs 2n forward passes a step, and time and memory (8 bytes each, or a bit for every weight where that is less) in
    proportion to the chosen weights. The masks are saved in the parameter groups of `state_dict`.

    Args:
        params: parameters, best with their names: `model.named_parameters()`.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions.
        masks: boolean tensors by name (`#place` where there are no names); tensors without one are left alone. See
            `shoestring.zeroth.masks`: `largest(squared_gradients(...), 0.001)` is SensZOQ's choice, `largest` of the
            magnitudes another. A number chooses that share of the weights at random, from the seed.
        common: see `ZerothOrder`.

    Source: Guo et al. 2024, Zeroth-Order Fine-Tuning of LLMs with Extreme Sparsity (arXiv 2406.02913).
    Differs: the weights that are left alone are not quantised.
    """

    _built: tuple[object, Masked] | None = None

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        masks: Mapping[str, Tensor] | float = 0.01,
        **common: Unpack[Common],
    ) -> None:
        check(type(self).__name__, "samples", samples, whole=True)
        super().__init__(params, lr, {"eps": eps, "samples": int(samples), "masks": None}, **common)
        tensors = trained_tensors(self.param_groups)
        if not isinstance(masks, Mapping):
            masks = at_random({tensor.name: tensor.param for tensor in tensors}, masks, self.shared["seed"])
        self.shared["masks"] = checked(masks, tensors)

    @property
    def masked(self) -> Masked:
        """The directions, confined to the chosen weights."""
        saved = self.shared["masks"]
        if self._built is None or self._built[0] is not saved:  # They are others once a state is loaded.
            tensors = [tensor for tensor in self.engine.tensors if tensor.name in saved]
            masks = {tensor.name: unpacked(saved[tensor.name], tensor.param.device) for tensor in tensors}
            self._built = saved, Masked(self.directions, masks)
        return self._built[1]

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction in the chosen weights."""
        eps, samples, masked = self.shared["eps"], self.shared["samples"], self.masked
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        return two_sided(evaluate, masked, seeds, eps)

    def update(self, estimate: Estimate) -> Update:
        """Descend along the estimate in the chosen weights."""
        return TermsUpdate(self.masked, estimate.terms, self.rates(), self.rounding_seed())
