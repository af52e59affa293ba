"""Support vector regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from shoestring.kernels.solvers.base import SOLVERS, Regressing

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution


@SOLVERS.register("svr")
class SVR(Regressing):
    """scikit-learn's SVR on the kernel, all outputs of all examples as one list of numbers.

    Source: Drucker et al. 1997; as a solver of kernels princeton-nlp/LM-Kernel-FT.
    """

    semidefinite: ClassVar[bool] = True

    kind: Literal["svr"] = "svr"
    c: PositiveFloat = 1.0
    """Most that a training example may weigh."""
    margin: NonNegativeFloat = 0.1
    """Errors up to this size cost nothing."""

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return what scikit-learn finds; facts say how many support vectors there are."""
        import torch
        from sklearn import svm

        from shoestring.kernels.solvers.fitted import Solution
        from shoestring.kernels.solvers.outer import TOLERANCE, converging

        with converging() as facts:
            solver = svm.SVR(C=self.c, epsilon=self.margin, kernel="precomputed", tol=TOLERANCE)
            found = solver.fit(matrix.numpy(), targets.reshape(-1).numpy())
        facts |= {"support_vectors": len(found.support_)}
        return Solution(lambda kernel, _: torch.from_numpy(found.predict(kernel.T.numpy())), facts)
