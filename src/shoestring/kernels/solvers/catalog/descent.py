"""Gradient descent of the linearised model, in the space of its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from shoestring.kernels.solvers.base import SOLVERS, Solver

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution


@SOLVERS.register("descent")
class Descent(Solver):
    """Trains the linearised model f0(x) + J(x) (theta - theta0), by gradient descent on all training examples at once.

    Its weights need not be written out: they are theta0 + sum_i a_i J_i, and a step changes a alone,

        a <- a - lr dL/df(x_1 ... x_N),     f(x) = f0(x) + sum_i a_i K(x_i, x),

    L being the mean cross-entropy over the training examples. With the kernel `sgd` this is that model to the last
    digit; with other formulas it is descent in what they put in the place of gradients.

    Source: Jacot et al. 2018, Neural Tangent Kernel, section 4; Malladi et al. 2023 (arXiv 2210.05643), section 3.
    """

    classifies: ClassVar[bool] = True

    kind: Literal["descent"] = "descent"
    lr: PositiveFloat | None = None
    """Learning rate, that of the weights; unless given, N over the kernel's largest singular value, at which the loss
    of a symmetric kernel falls at every step."""
    steps: PositiveInt = 1000
    """Steps, each on all training examples."""

    @property
    def scaling(self) -> float:
        """One: the linearised model begins where the model is."""
        return 1.0

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return the solution for a model whose outputs are 0."""
        return self.solve_from(matrix, targets, targets.new_zeros(targets.shape))

    def solve_from(self, matrix: Tensor, targets: Tensor, start: Tensor) -> Solution:
        """Return where descent ends; facts say the learning rate, and the loss before and after.

        Raises:
            SolverError: if it diverges.
        """
        import torch

        from shoestring.errors import SolverError
        from shoestring.kernels.solvers.fitted import Solution, linear
        from shoestring.kernels.solvers.systems import norm

        lr = self.lr
        if lr is None:
            lr = len(targets) / max(norm(matrix), torch.finfo(matrix.dtype).tiny)
        weights = torch.zeros_like(start)
        values, first = start, _loss(start, targets)[0]
        for _ in range(self.steps):
            weights = weights - lr * _loss(values, targets)[1]
            values = start + (matrix.T @ weights.reshape(-1)).view_as(start)
        last = _loss(values, targets)[0]
        if not last < max(2 * first, 1.0):  # not `>=`: the loss may be no number at all
            raise SolverError(
                f"descent diverges: the loss was {first:.3g} and is {last:.3g} after {self.steps} steps; give a "
                "smaller method.solver.lr, or none"
            )
        return Solution(linear(weights.reshape(-1)), {"lr": lr, "first_loss": first, "last_loss": last})


def _loss(values: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the mean cross-entropy of outputs [N, C], and its gradient [N, C]; targets are -1 and 1 of one output."""
    from torch.nn import functional

    count = len(targets)
    if values.shape[1] == 1:
        wanted = (targets + 1) / 2
        loss = functional.binary_cross_entropy_with_logits(values, wanted)
        return float(loss), (values.sigmoid() - wanted) / count
    loss = -(targets * values.log_softmax(1)).sum() / count
    return float(loss), (values.softmax(1) - targets) / count
