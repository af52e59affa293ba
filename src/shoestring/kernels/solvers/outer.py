"""What solvers of scikit-learn have in common."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shoestring.errors import SolverError

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-6
"""When support vector machines are done; with scikit-learn's 1e-3, results would depend on the order of examples."""


def two_classes(name: str, targets: Tensor) -> Any:
    """Return targets, which are -1 and 1, or 0 and 1, as classes 0 and 1.

    Raises:
        SolverError: if there is one class only.
    """
    classes = (targets.reshape(-1) > 0).int().numpy()
    if classes.min() == classes.max():
        raise SolverError(f"the solver {name} needs training examples of both classes; all of these are of one")
    return classes


@contextmanager
def converging() -> Iterator[dict[str, Any]]:
    """Yield facts, which say afterwards whether an optimizer that was run inside came to its end.

    What scikit-learn's versions say of their future defaults is left out: it is of settings that are not used here.
    """
    from sklearn.exceptions import ConvergenceWarning

    facts: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("always", ConvergenceWarning)
        yield facts
    others = [one for one in caught if not issubclass(one.category, ConvergenceWarning | FutureWarning)]
    facts["converged"] = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
    for one in others:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
