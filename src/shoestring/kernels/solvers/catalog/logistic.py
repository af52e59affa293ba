"""Logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from shoestring.kernels.solvers.base import SOLVERS, Solver

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Solution

_FOLDS = 5


@SOLVERS.register("logistic")
class Logistic(Solver):
    """Logistic regression with an intercept, whose features of an example are its kernel with the training examples.

    f = log p(1) - log p(0). With several outputs every example is asked once for each of them, yes or no, and all share
    one set of weights.

    Source: princeton-nlp/LM-Kernel-FT, where it is the default.
    Differs: LM-Kernel-FT fits rows of the kernel and predicts from columns (src/kernel_solvers.py), which are the same
        for symmetric kernels only.
    """

    classifies: ClassVar[bool] = True

    kind: Literal["logistic"] = "logistic"
    c: PositiveFloat | None = None
    """Inverse strength of the penalty on squared weights; unless given, the best of ten from 1e-4 to 1e4 by accuracy in
    stratified folds, five where there are as many examples of each class."""
    max_iter: PositiveInt = 10_000
    """Steps of the optimizer, at most."""

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Return what scikit-learn finds; facts say the strength, and whether the optimizer came to its end.

        Raises:
            SolverError: if all training examples are of one class, or there are too few to choose by.
        """
        import torch

        from shoestring.errors import SolverError
        from shoestring.kernels.solvers.fitted import Solution
        from shoestring.kernels.solvers.outer import converging, two_classes

        classes = two_classes(self.name, targets)
        # The feature of an example for training example n is K[n, example], as in predictions.
        features = matrix.T.numpy()
        fewest = int(min((classes == 0).sum(), (classes == 1).sum()))
        if self.c is None and fewest == 1:
            raise SolverError("one example of a class is too few to choose by folds: give method.solver.c")
        with converging() as facts:
            found: Any = self._fitted(features, classes, min(_FOLDS, fewest))
        facts |= {"c": float(found.C_[0]) if self.c is None else self.c}
        return Solution(lambda kernel, _: torch.from_numpy(found.decision_function(kernel.T.numpy())), facts)

    def _fitted(self, features: Any, classes: Any, folds: int) -> Any:
        from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

        if self.c is not None:
            return LogisticRegression(C=self.c, max_iter=self.max_iter, random_state=0).fit(features, classes)
        return LogisticRegressionCV(cv=folds, max_iter=self.max_iter, random_state=0).fit(features, classes)
