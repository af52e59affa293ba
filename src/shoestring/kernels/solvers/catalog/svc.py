"""A support vector classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from shoestring.kernels.solvers.base import SOLVERS, Solver

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution


@SOLVERS.register("svc")
class SVC(Solver):
    """scikit-learn's SVC on the kernel; f is its decision function, so that the class is the sign of f.

    Source: Cortes & Vapnik 1995; as a solver of kernels princeton-nlp/LM-Kernel-FT.
    Differs: LM-Kernel-FT predicts -1 or 1 (src/kernel_solvers.py), the sign of this.
    """

    binary_only: ClassVar[bool] = True
    semidefinite: ClassVar[bool] = True
    classifies: ClassVar[bool] = True

    kind: Literal["svc"] = "svc"
    c: PositiveFloat = 1.0
    """Most that a training example may weigh."""

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return what scikit-learn finds; facts say how many support vectors there are.

        Raises:
            SolverError: if all training examples are of one class.
        """
        import torch
        from sklearn import svm

        from shoestring.kernels.solvers.fitted import Solution
        from shoestring.kernels.solvers.outer import TOLERANCE, converging, two_classes

        classes = two_classes(self.name, targets)
        with converging() as facts:
            found = svm.SVC(C=self.c, kernel="precomputed", tol=TOLERANCE).fit(matrix.numpy(), classes)
        facts |= {"support_vectors": len(found.support_)}
        return Solution(lambda kernel, _: torch.from_numpy(found.decision_function(kernel.T.numpy())), facts)
