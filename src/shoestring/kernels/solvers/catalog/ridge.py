"""Kernel ridge regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from shoestring.kernels.solvers.base import SOLVERS, Regressing

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution

_REMEDY = "give method.solver.regularization more than 0"


@SOLVERS.register("ridge")
class Ridge(Regressing):
    """f = K(., x)^T a with (K + r I)^T a = y, where r is what predicts each training example best from the others.

    With G the inverse of (K + r I)^T, the error on an example i that is left out, with all its outputs, is
    G_ii^-1 (G y)_i, so that no system but the whole one is solved. Units of r are those of the whole kernel.

    Source: Craven & Wahba 1979 (leaving one out); Rifkin & Lippert 2007, Notes on regularized least squares.
    """

    kind: Literal["ridge"] = "ridge"
    regularization: NonNegativeFloat | None = None  # type: ignore[assignment]
    """Added to the diagonal of the training kernel, in units of its largest singular value; unless given, that of the
    `candidates` with the least squared error on training examples that are left out one at a time."""
    candidates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
    """What the regularization is chosen from; the first of equals."""

    def added(self) -> float:
        """Return what is known before the kernel is."""
        return self.regularization or 0.0

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return the solution; facts say which regularization was chosen and its mean squared error.

        Raises:
            SolverError: if the system is singular, or there is but one example to leave out.
        """
        from shoestring.errors import SolverError
        from shoestring.kernels.solvers.fitted import Solution, linear
        from shoestring.kernels.solvers.systems import inverse, regularized

        if self.regularization is not None:
            return Solution(linear(inverse(matrix.T, _REMEDY) @ targets.reshape(-1)))
        if len(targets) == 1:
            raise SolverError("one training example cannot be left out: give method.solver.regularization")
        tried = []
        for amount in self.candidates:
            whole, added = regularized(matrix, amount, absolute=self.absolute)
            inverted = inverse(whole.T, "give method.solver.candidates larger values")
            error = float(left_out(inverted, targets).square().mean())
            tried.append((error, amount, added, inverted @ targets.reshape(-1)))
        error, amount, added, weights = min(tried, key=lambda one: one[0])
        return Solution(linear(weights), {"regularization": amount, "added": added, "left_out_error": error})


def left_out(inverted: Tensor, targets: Tensor) -> Tensor:
    """Return errors y - f [N, C] on each example, when it is left out, given the inverse of the whole system."""
    import torch

    count, outputs = targets.shape
    blocks = inverted.view(count, outputs, count, outputs).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    return torch.linalg.solve(blocks, (inverted @ targets.reshape(-1)).view(count, outputs))
