"""What a rule for a layer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from shoestring.kernels.pieces import Flat, Piece
from shoestring.registry import Registry

_CANCELLED = 64


class LayerRule(ABC):
    """How gradients of a layer's own parameters follow from what went through it.

    A rule may be wrong about a module (a subclass that does something else with its weight): every parameter is
    checked against autograd before it is used (`shoestring.kernels.routes`).
    """

    @abstractmethod
    def handles(self, module: nn.Module) -> bool:
        """Return whether the rule is about this module."""

    @abstractmethod
    def piece(self, module: nn.Module, name: str, seen: Tensor, grads: Tensor) -> Piece | None:
        """Return the gradient of one parameter, or None where the rule does not know.

        Args:
            module: the layer.
            name: the parameter's own name in it, such as "weight".
            seen: the input, [n, T, ...], or token ids [n, T].
            grads: gradients of the outputs [n, C, T, ...].
        """


LAYERS: Registry[LayerRule] = Registry("layer", "shoestring.kernels.layers")


def rule_of(module: nn.Module) -> LayerRule | None:
    """Return the rule for a module, or None."""
    return next((rule for _, rule in LAYERS.items() if rule.handles(module)), None)


def summed(terms: Tensor) -> Flat:
    """Return sum_t terms[n, c, t] as the gradient of a vector; a sum that cancels to rounding is zero.

    A sum below 64 eps of what its terms' sizes sum to is zero in exact arithmetic as far as can be known: the gradient
    of the bias of attention's keys always is, since a softmax does not see what is added to all its inputs. Its sign
    would be that of rounding errors, and every sign counts the same.

    Differs: LM-Kernel-FT takes the sign of what rounding leaves.
    """
    terms = terms if terms.dtype == torch.float64 else terms.float()
    found = terms.sum(2)
    if terms.shape[2] > 1:
        limit = _CANCELLED * torch.finfo(terms.dtype).eps
        found = found.masked_fill(found.abs() <= limit * terms.abs().sum(2), 0.0)
    return Flat(found[..., None])
