"""Kernel regression with the gradients of the pretrained model."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, field_validator, model_validator

from shoestring.config import Settings, union_of
from shoestring.errors import ShoestringError
from shoestring.kernels.settings import KernelSettings
from shoestring.kernels.solvers.base import SOLVERS
from shoestring.kernels.solvers.base import Solver as AnySettings
from shoestring.kernels.solvers.catalog.least_squares import LeastSquares
from shoestring.methods.base import METHODS
from shoestring.methods.catalog.linear_probe import LinearProbe
from shoestring.methods.training import named

if TYPE_CHECKING:
    from shoestring.data.settings import DataSettings
    from shoestring.kernels.solvers.base import Solver as AnySolver
    from shoestring.methods.base import Given, Outcome
    from shoestring.models.settings import ModelSettings
    from shoestring.prompts.settings import PromptSettings
    from shoestring.tasks.spec import Task
else:
    AnySolver = union_of(entry for _, entry in SOLVERS.items())

_TWO = 2


@METHODS.register("kernel")
class KernelRegression(Settings):
    """Predicts by the kernel of the weights that the tuning names, at their pretrained values; nothing is trained.

    f(x) = sum_i a_i K(x_i, x), where K is the inner product of what `formula` makes of the gradients of scores: what
    fine-tuning would come to if the gradients stayed as they are at first.

    Source: Malladi et al. 2023, A Kernel-Based View of Language Model Fine-Tuning (arXiv 2210.05643).
    """

    trains: ClassVar[bool] = False
    needs_backward: ClassVar[bool] = True
    reads_tuning: ClassVar[bool] = True
    writes: ClassVar[bool] = False

    kind: Literal["kernel"] = "kernel"
    formula: str = "sgd"
    """What is made of gradients: "sgd" (the gradients themselves), "signgd" (their signs), "asymmetric-signgd" (the
    signs of those of training examples), or its mirror image "asymmetric-signgd-flipped"."""
    solver: Annotated[AnySolver, BeforeValidator(named)] = LeastSquares()
    """What finds a_i; a `kind` alone may be written as a text."""
    grid: dict[str, tuple[bool | int | float | str, ...]] = {}
    """Values of the solver's settings, every combination of which is solved; the best on dev is kept, the first of
    equals. The kernel is computed once."""
    select: Literal["metric", "loss"] = "metric"
    """What is best on dev: the task's main metric, or the lowest loss."""
    exclude: tuple[Literal["embeddings", "head"], ...] = ()
    """Weights to leave out of those that the tuning names; tied embeddings count as embeddings."""
    cosine: bool = False
    """Divide every entry by the norms of its two gradients."""
    projection: PositiveInt | None = None
    """Project the gradient of every matrix at random, to so many rows and columns: quicker, and right in expectation.
    For inner products of gradients, not of signs."""
    files: dict[str, str] = {}
    """Kernels that were computed elsewhere, in the `.pt` files of LM-Kernel-FT: a file for the training examples
    (`train`) and one for each split that is predicted (`dev`, `test`, ...). They are compared with the run's examples:
    numbers, labels, and a few entries with those that the run's model gives. Paths are meant from the current
    folder."""
    begin: Annotated[LinearProbe | None, BeforeValidator(named)] = None
    """As for methods that train: the output layer is first given the solution of a linear probe ("linear-probe"), and
    the gradients are those of the model with it. The tuning must name its weights; `exclude` leaves them out."""
    compute: KernelSettings = Field(default=KernelSettings())
    """How the kernel is computed."""

    @field_validator("formula")
    @classmethod
    def _known(cls, value: str) -> str:
        from shoestring.kernels.formulas.base import FORMULAS

        try:
            FORMULAS.get(value)
        except ShoestringError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        from shoestring.kernels.formulas.base import FORMULAS

        formula = FORMULAS.get(self.formula)
        if self.solver.semidefinite and not formula.symmetric:
            raise ValueError(
                f"solver.kind={self.solver.name!r} needs a symmetric kernel, which formula={self.formula!r} is not; "
                "use 'asymmetric', 'ridge' or 'least-squares'"
            )
        if self.projection is not None and not formula.linear:
            raise ValueError(f"projection keeps inner products of gradients, but formula={self.formula!r} is of signs")
        if self.files and "train" not in self.files:
            raise ValueError(f"files has no kernel of the training examples, `train`; it has {', '.join(self.files)}")
        for key in ("cosine", "projection") if self.files else ():
            if getattr(self, key):
                raise ValueError(f"{key} has no effect on kernels of files; leave one of them out")
        if self.select != "metric" and not self.grid:
            raise ValueError("select has no effect without a grid to select from")
        self.solvers()
        return self

    @property
    def needs_dev(self) -> bool:
        """Whether something is chosen on dev."""
        return len(self.solvers()) > 1 or (self.begin is not None and self.begin.choose_on == "dev")

    def solvers(self) -> list[tuple[dict[str, Any], AnySettings]]:
        """Return every combination of the grid, and the solver with these settings, in the order of the values.

        Raises:
            ValueError: if the solver has no such setting, or a value is not allowed.
        """
        known = [name for name in type(self.solver).model_fields if name != "kind"]
        for name, values in self.grid.items():
            if name not in known:
                raise ValueError(f"grid.{name}: the solver {self.solver.name} has {', '.join(known)}")
            if not values:
                raise ValueError(f"grid.{name} is empty")
        names = sorted(self.grid)
        found: list[tuple[dict[str, Any], AnySettings]] = []
        for values in product(*(self.grid[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            try:
                table = self.solver.model_dump(exclude_unset=True) | chosen
                found.append((chosen, type(self.solver).model_validate(table)))
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"grid.{first['loc'][0]}: {first['msg']}, not {first['input']!r}") from None
        return found

    def problems(self, task: Task, data: DataSettings, model: ModelSettings, prompt: PromptSettings) -> list[str]:
        """Return what speaks against this method for these settings."""
        if model.quantization is not None:
            return [f"method.kind='kernel' reads gradients that model.quantization={model.quantization!r} has not"]
        problems = [] if self.begin is None else list(self.begin.problems_as_beginning(task, prompt, model.kind))
        if self.solver.classifies and task.range is not None:
            problems.append(
                f"method.solver.kind={self.solver.name!r} tells classes apart, and {task.name} asks for a number; use "
                "least-squares, ridge, svr or asymmetric"
            )
        elif self.solver.binary_only and task.labels and len(task.labels) != _TWO:
            problems.append(
                f"method.solver.kind={self.solver.name!r} tells two classes apart, and {task.name} has "
                f"{len(task.labels)}; use least-squares, ridge, svr or logistic"
            )
        return problems

    def fit(self, given: Given) -> Outcome:
        """Compute the kernel of the training examples, solve, and choose on dev where there is a grid."""
        from shoestring.methods.kernel import fit

        return fit(self, given)
