"""MeZO on a fixed, sparse choice of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Unpack

from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.masks import at_random, checked, pack, unpacked
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.tensors import Trained, trained_tensors
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
            magnitudes another. A number chooses that share of the weights at random, from the seed; also of tensors
            that are added or unfrozen later.
        common: see `ZerothOrder`.

    Raises:
        OptimizerError: for settings that cannot work, and masks that fit no tensor that is trained.

    Source: Guo et al. 2024, Zeroth-Order Fine-Tuning of LLMs with Extreme Sparsity (arXiv 2406.02913).
    Differs: the weights that are left alone are not quantised.
    """

    _built: tuple[object, object, Masked] | None = None

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
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        if not isinstance(masks, (Mapping, Real)) and not (isinstance(masks, Tensor) and masks.numel() == 1):
            raise OptimizerError(
                f"{name}: masks={masks!r}; give boolean tensors by name, or the share of the weights that is chosen"
            )
        fraction = None if isinstance(masks, Mapping) else float(masks)
        own = {"eps": eps, "samples": int(samples), "masks": None, "fraction": fraction}
        super().__init__(params, lr, own, **common)
        tensors = trained_tensors(self.param_groups)
        self.shared["masks"] = checked(masks if isinstance(masks, Mapping) else self._drawn(tensors), tensors)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; one that does not say whether its masks were drawn has none drawn later.

        Raises:
            OptimizerError: as any optimizer's.
        """
        first, *others = state_dict["param_groups"]
        super().load_state_dict({**state_dict, "param_groups": [{"fraction": None, **first}, *others]})

    @property
    def masked(self) -> Masked:
        """The directions, confined to the chosen weights."""
        tensors = self.engine.tensors
        late = [tensor for tensor in tensors if tensor.name not in self.shared["masks"]]
        if late and self.shared["fraction"] is not None:
            self.shared["masks"] = self.shared["masks"] | {n: pack(mask) for n, mask in self._drawn(late).items()}
        saved = self.shared["masks"]
        # Masks are others once a state is loaded, tensors once some are frozen, unfrozen or added.
        if self._built is None or self._built[0] is not saved or self._built[1] is not tensors:
            here = [tensor for tensor in tensors if tensor.name in saved]
            masks = {tensor.name: unpacked(saved[tensor.name], tensor.param.device) for tensor in here}
            self._built = saved, tensors, Masked(self.directions, masks)
        return self._built[2]

    def _drawn(self, tensors: Sequence[Trained]) -> dict[str, Tensor]:
        """Return masks of tensors, drawn from the seed and their names."""
        params = {tensor.name: tensor.param for tensor in tensors}
        return at_random(params, self.shared["fraction"], self.shared["seed"])

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction in the chosen weights."""
        eps, samples, masked = self.shared["eps"], self.shared["samples"], self.masked
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        return two_sided(evaluate, masked, seeds, eps)

    def update(self, estimate: Estimate) -> Update:
        """Descend along the estimate in the chosen weights."""
        return TermsUpdate(self.masked, estimate.terms, self.rates(), self.rounding_seed())
