"""What a rule for a layer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from shoestring.kernels.pieces import Flat, Piece, Spread
from shoestring.registry import Registry

_CANCELLED = 64
_HALF = (torch.bfloat16, torch.float16)
_ROUNDED = 0.25


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
    """Return sum_t terms[n, c, t] as the gradient of a vector, and what tells whether it cancels (`settled`)."""
    half = terms.dtype in _HALF
    terms = terms if terms.dtype == torch.float64 else terms.float()
    squares = terms.square().sum(2)[..., None] if half else None
    return Flat(terms.sum(2)[..., None], Spread(terms.abs().sum(2)[..., None], squares))


def settled(piece: Piece) -> Piece:
    """Return the same gradient, zero where it is a sum that cancels to rounding; all calls of its layer are in it.

    A sum below 64 eps of what its terms' sizes sum to is zero in exact arithmetic as far as can be known: the gradient
    of the bias of attention's keys always is, since a softmax does not see what is added to all its inputs. Its sign
    would be that of rounding errors, and every sign counts the same.

    Terms in half precision are too coarse to tell that of one element. A vector of which no element is more than a
    quarter of the root of the sum of its terms' squares is zero as a whole: rounding errors come to less, and a sum of
    terms that have nothing to do with each other to more in some element.

    Differs: LM-Kernel-FT takes the sign of what rounding leaves.
    """
    if not isinstance(piece, Flat) or piece.spread is None:
        return piece
    values, spread = piece.values, piece.spread
    cancelled = values.abs() <= _CANCELLED * torch.finfo(values.dtype).eps * spread.sizes
    if spread.squares is not None:
        cancelled |= (values.abs() <= _ROUNDED * spread.squares.sqrt()).all(2, keepdim=True)
    return Flat(values.masked_fill(cancelled, 0.0))
