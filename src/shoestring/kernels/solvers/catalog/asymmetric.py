"""The two-sided system of asymmetric kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from shoestring.kernels.solvers.base import SOLVERS, Regressing

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution


@SOLVERS.register("asymmetric")
class Asymmetric(Regressing):
    """Two functions, one of each side's features, each of which is to be right on the training examples.

        [ I/gamma    K   ] [u]   [y]
        [   K^T   I/gamma] [w] = [y]        f = lambda K(., x)^T u + (1 - lambda) K'(., x)^T w

    K' is the flipped kernel. For targets of -1 and 1, u = alpha y and w = beta y give the system of the papers, in
    H = y K y; in this form it is right for other targets too: several outputs, or what an offset leaves. The system is
    singular where a singular value of K is 1 / gamma.

    Source: He et al. 2022, Learning with asymmetric kernels: least squares and feature interpretation (arXiv
        2202.01397), section 3, without its biases, as Malladi et al. 2023 (arXiv 2210.05643).
    Differs: with an offset LM-Kernel-FT asks for f = 1 / y where this asks for f = y, and it has no way to set lambda
        (src/kernel_solvers.py); without an offset both give the same.
    """

    both_sides: ClassVar[bool] = True

    kind: Literal["asymmetric"] = "asymmetric"
    gamma: PositiveFloat = 1.0
    """Weight of the errors on training examples, against the size of the solution."""
    mix: Annotated[float, Field(ge=0, le=1)] = 1.0
    """lambda: the part of the function that the training side's map of gradients makes, in predictions."""

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return the solution of the system.

        Raises:
            SolverError: if it is singular.
        """
        import torch

        from shoestring.kernels.solvers.fitted import Solution
        from shoestring.kernels.solvers.systems import inverse

        own = torch.eye(len(matrix), dtype=matrix.dtype) / self.gamma
        system = torch.cat((torch.cat((own, matrix), 1), torch.cat((matrix.T, own), 1)))
        remedy = "give another method.solver.gamma, or method.solver.regularization more than 0"
        both = inverse(system, remedy) @ targets.reshape(-1).repeat(2)
        first, second = both[: len(matrix)], both[len(matrix) :]

        def rule(kernel: Tensor, flipped: Tensor | None) -> Tensor:
            other = kernel if flipped is None else flipped
            return self.mix * (kernel.T @ first) + (1 - self.mix) * (other.T @ second)

        return Solution(rule)
