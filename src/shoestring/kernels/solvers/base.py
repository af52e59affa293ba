"""What a solver is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeFloat, PositiveFloat

from shoestring.config import Settings
from shoestring.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.kernels.solvers.fitted import Fitted, Solution
    from shoestring.kernels.solvers.gram import Gram


class Solver(Settings):
    """A way to find f with f(x) = sum_i a_i K(x_i, x), and its settings, told from others by `kind`.

    A kernel [N, C, M, C] is taken as one matrix [N C, M C], so that all outputs are found from one system. Every solver
    adds `regularization` to its diagonal, in units of its largest singular value unless `absolute`.

    Attributes:
        binary_only: whether it takes a single output only, with targets -1 and 1.
        semidefinite: whether the kernel of the training examples must be symmetric and positive semi-definite.
        both_sides: whether it needs the kernel of flipped maps too.
        classifies: whether targets must be classes, where others take any number.
    """

    binary_only: ClassVar[bool] = False
    semidefinite: ClassVar[bool] = False
    both_sides: ClassVar[bool] = False
    classifies: ClassVar[bool] = False

    regularization: NonNegativeFloat = 0.0
    """Added to the diagonal of the training kernel, in units of its largest singular value."""
    absolute: bool = False
    """Whether the regularization is in units of the kernel itself instead."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return str(type(self).model_fields["kind"].default)

    @property
    def scaling(self) -> float | None:
        """What the model's own outputs f0 are divided by before they are taken as offset; None for no offset."""
        return None

    def fit(self, train: Gram, targets: Tensor) -> Fitted:
        """Solve for the training examples.

        Args:
            train: their kernel with themselves.
            targets: [N, C], as `targets.coded` makes them.

        Raises:
            SolverError: if the kernel is not of such examples or of a kind that this solver cannot take, if it is not
                finite, or if the system is singular.
        """
        from shoestring.kernels.solvers.checks import check_ability, check_finite, check_train
        from shoestring.kernels.solvers.fitted import Fitted
        from shoestring.kernels.solvers.offset import offset
        from shoestring.kernels.solvers.systems import regularized

        check_train(train, targets)
        check_finite(train.values, "the training kernel")
        check_ability(self, train)
        matrix, added = regularized(train.flat(), self.added(), absolute=self.absolute)
        solution = self.solve_from(matrix, targets.double(), offset(train, self.scaling))
        facts = ({"added": added} if added else {}) | solution.facts
        return Fitted(solution.rule, tuple(train.values.shape[:2]), self.both_sides, self.scaling, train.origin, facts)

    def added(self) -> float:
        """Return what is added to the diagonal, in the units that the settings say."""
        return self.regularization

    def solve_from(self, matrix: Tensor, targets: Tensor, start: Tensor) -> Solution:
        """Solve for targets and an offset, both [N, C]: where errors are differences, for what the offset leaves."""
        return self.solve(matrix, targets - start)

    @abstractmethod
    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """Solve for a regularized kernel [N C, N C] and targets [N, C]."""


class Regressing(Solver):
    """Solvers whose targets are numbers, so that only what the model itself leaves of them need be found."""

    f0_scaling: PositiveFloat | None = None
    """What the pretrained model's own outputs f0 are divided by to be the offset that is corrected: targets y - f0 / s,
    predictions f + f0 / s. Without it there is no offset."""

    @property
    def scaling(self) -> float | None:
        """What f0 is divided by."""
        return self.f0_scaling


SOLVERS: Registry[type[Any]] = Registry("solver", "shoestring.kernels.solvers.catalog")
