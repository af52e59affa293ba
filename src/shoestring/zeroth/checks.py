"""Checks of what an optimizer is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from shoestring.errors import OptimizerError


def check(
    optimizer: str, name: str, value: float, *, positive: bool = False, whole: bool = False, least: int = 1
) -> None:
    """Check a number given to an optimizer: finite, and not negative, positive, or whole and at least `least`.

    Raises:
        OptimizerError: if it is not.
    """
    if not isinstance(value, (Real, Tensor)):
        raise OptimizerError(f"{optimizer}: {name}={value!r}; it must be a number")
    if whole and math.isfinite(value) and value != int(value):
        raise OptimizerError(f"{optimizer}: {name}={value!r}; it must be a whole number")
    allowed = value >= least if whole else value > 0 if positive else value >= 0
    if not (math.isfinite(value) and allowed):
        bound = f"at least {least}" if whole else "positive" if positive else "not negative"
        raise OptimizerError(f"{optimizer}: {name}={value!r}; it must be finite and {bound}")


def check_share(optimizer: str, name: str, value: float) -> None:
    """Check a number given to an optimizer: at least 0 and below 1, as the memory of a running mean.

    Raises:
        OptimizerError: if it is not.
    """
    if not isinstance(value, (Real, Tensor)):
        raise OptimizerError(f"{optimizer}: {name}={value!r}; it must be a number")
    if not 0 <= value < 1:
        raise OptimizerError(f"{optimizer}: {name}={value!r}; it must be at least 0 and below 1")


def check_choice(optimizer: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Check a choice given to an optimizer.

    Raises:
        OptimizerError: if it is none of those allowed.
    """
    if value not in allowed:
        names = ", ".join(map(repr, allowed))
        raise OptimizerError(f"{optimizer}: {name}={value!r}; allowed: {names}")


def python_number(value: Any) -> Any:
    """Return a number of numpy's as Python's own: in a file of a state, only those load without trust in its maker."""
    return value.item() if isinstance(value, np.generic) else value
