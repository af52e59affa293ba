"""What solvers are given: a kernel of training examples and others, with what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from shoestring.errors import SolverError, UnknownNameError
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.kernels.kernel import Kernel

# What the kernel of the training examples and that of others have in common.
_SHARED = ("model", "scores", "difference", "parameters", "masks", "projection", "rows")


@dataclass(frozen=True)
class Gram:
    """A kernel whose rows are training examples.

    Attributes:
        values: K[n, c, m, d], [N, C, M, C].
        outputs: outputs f0 [M, C] of the columns at the weights where gradients were taken; None where not known.
        flipped: the kernel with the maps of rows and columns exchanged, on the same axes; None where not known.
        origin: what must be the same in a kernel of training examples and in that of others; empty where not known.
    """

    values: Tensor
    outputs: Tensor | None = None
    flipped: Tensor | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def flat(self) -> Tensor:
        """Return the kernel as a matrix [N C, M C], float64, example by example."""
        return _flat(self.values)

    def flat_flipped(self) -> Tensor | None:
        """Return the flipped kernel as a matrix."""
        return None if self.flipped is None else _flat(self.flipped)


def _flat(values: Tensor) -> Tensor:
    rows, outputs, columns, others = values.shape
    return values.double().reshape(rows * outputs, columns * others)


def gram_of(kernels: Mapping[str, Kernel], formula: str) -> Gram:
    """Return what solvers take, of kernels as `compute_kernels` returns them.

    Args:
        kernels: by the name of their formula; rows are training examples.
        formula: the one that is solved for.

    Raises:
        UnknownNameError: if it is not among the kernels.
        SolverError: if it is not symmetric, rows and columns are different examples, and the flipped one is missing.
    """
    if formula not in kernels:
        raise UnknownNameError("kernel", formula, kernels)
    kernel, entry = kernels[formula], FORMULAS.get(formula)
    if entry.symmetric:
        flipped = kernel.values
    elif entry.flipped in kernels:
        flipped = kernels[entry.flipped].values
    elif kernel.rows == kernel.columns:
        flipped = kernel.values.permute(2, 3, 0, 1)
    else:
        raise SolverError(
            f"the kernel {formula} of training examples and others needs {entry.flipped} beside it; compute both, with "
            f'formulas=("{formula}", "{entry.flipped}")'
        )
    known = kernel.description
    origin = {"formula": formula, **{name: known[name] for name in _SHARED if name in known}}
    return Gram(kernel.values, kernel.column_outputs, flipped, origin)
