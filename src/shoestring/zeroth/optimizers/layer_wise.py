"""Layer-wise MeZO: one slope for each layer, from a pair of forward passes of its own."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.layers import by_layer, confined
from shoestring.zeroth.points import both_ends
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("layer-wise-mezo")
class LayerWiseMeZO(ZerothOrder):
    r"""MeZO with the estimate made layer by layer.

    Per step, for each layer l of the G layers, with directions z_l that are 0 in the others:

        g_l = (L(theta + eps z_l) - L(theta - eps z_l)) / (2 eps)
        theta_l <- theta_l - lr * ( mean over n directions of g_l z_l  +  weight_decay * theta_l )

    Unbiased, with the sum over layers of (d_l + 1) |gradient_l|^2 for a variance in place of (d + 1) |gradient|^2.
    All slopes of a step are taken at the same weights.

    Costs 2nG forward passes a step and no memory beyond scratch. Layers are those of `VarianceModifiedMeZO`.

    Args:
        params: parameters with their names: `model.named_parameters()`; without, every tensor is a layer.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions in each layer.
        common: see `ZerothOrder`.

    Source: Malladi et al. 2023, appendix B (arXiv 2305.17333).
    Differs: no scales: where each layer has its own slope they change eps alone. The reference's variant that picks one
        layer at random loops over all of them.
    """

    def __init__(
        self, params: Params, lr: float = 1e-6, *, eps: float = 1e-3, samples: int = 1, **common: Unpack[Common]
    ) -> None:
        check(type(self).__name__, "samples", samples, whole=True)
        super().__init__(params, lr, {"eps": eps, "samples": int(samples)}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of every direction in every layer."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        losses, grads, slopes = [], [], {}
        for layer, tensors in by_layer(self.engine.tensors).items():
            directions = confined(self, tensors)
            pairs = [evaluate(both_ends(directions, seed, eps)) for seed in seeds]
            slopes[layer] = [(plus - minus) / (2 * eps) for plus, minus in pairs]
            grads += slopes[layer]
            losses += [loss for pair in pairs for loss in pair]
        # One direction of the whole, cut into layers: the seeds are the same, the coefficients each layer's own.
        return Estimate((), sum(losses) / len(losses), tuple(grads), (tuple(seeds), slopes))

    def update(self, estimate: Estimate) -> Update:
        """Descend in each layer along its own slopes."""
        seeds, slopes = estimate.extra
        parts: dict[str, TermsUpdate] = {}
        for layer, tensors in by_layer(self.engine.tensors).items():
            terms = tuple((seed, slope / len(seeds)) for seed, slope in zip(seeds, slopes[layer], strict=True))
            part = TermsUpdate(self.directions, terms, self.rates(), self.rounding_seed())
            parts |= {tensor.name: part for tensor in tensors}

        def move(tensor: Trained, start: int, stop: int) -> None:
            parts[tensor.name](tensor, start, stop)

        return move
