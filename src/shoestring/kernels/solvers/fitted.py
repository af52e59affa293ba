"""What solvers find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from shoestring.kernels.solvers.checks import check_finite, check_test
from shoestring.kernels.solvers.gram import Gram
from shoestring.kernels.solvers.offset import offset

Rule = Callable[[Tensor, Tensor | None], Tensor]
"""From a kernel [N C, M C], and the flipped one, to predictions [M C]."""


@dataclass(frozen=True)
class Solution:
    """A rule, and what is to be known about how it was found."""

    rule: Rule
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A solver that knows its training examples.

    Attributes:
        rule: makes predictions of kernels.
        shape: N and C.
        both_sides: whether it needs the flipped kernel.
        scaling: what f0 is divided by to be the offset; None for no offset.
        origin: what must be the same in the kernels that predictions are made of.
        facts: of how it was found, for records.
    """

    rule: Rule
    shape: tuple[int, ...]
    both_sides: bool
    scaling: float | None
    origin: Mapping[str, Any]
    facts: dict[str, Any]

    def predict(self, test: Gram) -> Tensor:
        """Return predictions [M, C], float64.

        Args:
            test: the kernel of the training examples, as rows, and others.

        Raises:
            SolverError: if the rows are not the examples that were fitted, or the kernel is not finite.
        """
        check_test(test, self.shape, self.origin, both_sides=self.both_sides)
        check_finite(test.values, "the kernel")
        flipped = None
        if self.both_sides and test.flipped is not None:
            check_finite(test.flipped, "the flipped kernel")
            flipped = test.flat_flipped()
        found = self.rule(test.flat(), flipped).view(-1, self.shape[1])
        return found + offset(test, self.scaling)


def linear(weights: Tensor) -> Rule:
    """Return the rule f = K^T a for weights a [N C]."""
    return lambda kernel, _: kernel.T @ weights
