"""What a formula is: a map of the rows' Jacobians and one of the columns'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.registry import Registry


@dataclass(frozen=True)
class Map:
    """A map of gradients, element by element, so that it may be applied to any part of them.

    Attributes:
        name: what it is called.
        of: the map; it gets a part of the gradients and may not change it.
        linear: whether it is the identity, so that products need no written-out gradients.
        integer: whether its values are -1, 0 and 1, so that sums of products are exact.
    """

    name: str
    of: Callable[[Tensor], Tensor]
    linear: bool = False
    integer: bool = False


IDENTITY = Map("identity", lambda gradients: gradients, linear=True)
SIGN = Map("sign", torch.sign, integer=True)


@dataclass(frozen=True)
class Formula:
    """K[n, c, m, d] = <left(J_A[n, c]), right(J_B[m, d])>.

    Attributes:
        name: name in the registry.
        left: map of the rows' Jacobian.
        right: map of the columns'.
        flipped: name of the formula with the maps exchanged.
    """

    name: str
    left: Map
    right: Map
    flipped: str

    @property
    def symmetric(self) -> bool:
        """Whether a kernel of examples with themselves is symmetric, and positive semi-definite."""
        return self.left is self.right

    @property
    def linear(self) -> bool:
        """Whether it is the inner product of the Jacobians themselves."""
        return self.left.linear and self.right.linear


FORMULAS: Registry[Formula] = Registry("formula", "shoestring.kernels.formulas")


def register(formula: Formula) -> Formula:
    """Enter a formula under its name."""
    return FORMULAS.register(formula.name)(formula)
