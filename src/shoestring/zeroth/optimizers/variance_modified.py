"""Variance-modified MeZO: layers are perturbed in inverse proportion to a norm; still unbiased."""

from __future__ import annotations

from typing import Unpack

from shoestring.zeroth.base import OPTIMIZERS, Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check, check_choice
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.layers import NORMS, Norms, by_layer, layer_norms, layer_of
from shoestring.zeroth.spsa import two_sided
from shoestring.zeroth.update import TermsUpdate, Update


@OPTIMIZERS.register("variance-modified-mezo")
class VarianceModifiedMeZO(ZerothOrder):
    r"""MeZO with one scale c for each layer, that changes the estimate's variance and not its mean.

    Per step, for each of n directions z, with D = diag(c):

        g = (L(theta + eps z / c) - L(theta - eps z / c)) / (2 eps)
        theta <- theta - lr * ( mean over directions of g * (c z)  +  weight_decay * theta )

    E g (c z) = D E[z z'] D^-1 gradient = gradient. Layers are the embeddings, each numbered layer, the head and the
    rest, by the tensors' names: see `shoestring.zeroth.layers`. c is a norm of the layer (`norms`), measured before the
    first step, and again every `recompute_every` steps (an epoch), or in the next one where the measurement fails of a
    loss that is not finite; 0 is replaced by 1.

    Costs 2n forward passes a step and one number a layer, kept in the parameter groups. A measurement of the
    "zeroth-order" norms takes two more forward passes a layer, one of the "gradients" a forward and a backward pass and
    the memory of backpropagation, once; "parameters" none.

    Args:
        params: parameters with their names: `model.named_parameters()`; without, every tensor is a layer.
        lr: learning rate.
        eps: size of the perturbation.
        samples: number n of directions.
        norms: "parameters", "gradients" or "zeroth-order".
        recompute_every: steps between measurements; None: the first is kept.
        common: see `ZerothOrder`.

    Source: Malladi et al. 2023, definition 6 and appendix B (arXiv 2305.17333).
    Differs: the reference's option to divide a parameter norm by the root of the number of parameters divides it by the
        root of the norm itself; there is none here.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        samples: int = 1,
        norms: Norms = "parameters",
        recompute_every: int | None = None,
        **common: Unpack[Common],
    ) -> None:
        name = type(self).__name__
        check(name, "samples", samples, whole=True)
        check_choice(name, "norms", norms, NORMS)
        if recompute_every is not None:
            check(name, "recompute_every", recompute_every, whole=True)
        own = {"samples": int(samples), "norms": norms, "recompute_every": recompute_every, "scales": None}
        super().__init__(params, lr, {"eps": eps, **own}, **common)

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Measure the norms if it is time; evaluate both ends of every direction, shortened by them."""
        eps, samples = self.shared["eps"], self.shared["samples"]
        known = {} if self._due() else self.shared["scales"] or {}
        if any(layer not in known for layer in by_layer(self.engine.tensors)):
            self.shared["scales"] = layer_norms(self, evaluate, self.shared["norms"], eps) | known
            if not known:
                self.shared["measured_at"] = self.shared["steps"]
        shortened = self.scaled(-1)
        seeds = [self.direction_seed(sample) for sample in range(samples)]
        return two_sided(evaluate, shortened, seeds, eps)

    def _due(self) -> bool:
        """Return whether all norms are to be measured again, once in every period, as early as it can be."""
        steps, every = self.shared["steps"], self.shared["recompute_every"]
        if every is None or self.shared["scales"] is None:
            return False
        # States of earlier versions do not say when it was: it is due where a period begins here.
        last = self.shared.setdefault("measured_at", steps - 1)
        return steps // every != last // every

    def update(self, estimate: Estimate) -> Update:
        """Descend along the slopes times the directions, lengthened by the norms."""
        return TermsUpdate(self.scaled(1), estimate.terms, self.rates(), self.rounding_seed())

    def scaled(self, power: int) -> Scaled:
        """Return the directions times c^power, layer by layer."""
        scales = self.shared["scales"]
        return Scaled(
            self.directions, {tensor.name: scales[layer_of(tensor.name)] ** power for tensor in self.engine.tensors}
        )
