"""Linear systems of kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from shoestring.errors import SolverError

_SMALLEST = 1e-14
"""Reciprocal condition number below which not a digit of a solution is to be trusted."""


def regularized(matrix: Tensor, amount: float, *, absolute: bool) -> tuple[Tensor, float]:
    """Return K + r I, and r: `amount`, times |K|_2, the largest singular value, unless it is absolute."""
    if not amount:
        return matrix, 0.0
    added = amount if absolute else amount * norm(matrix)
    return matrix + added * torch.eye(len(matrix), dtype=matrix.dtype), added


def norm(matrix: Tensor) -> float:
    """Return the largest singular value."""
    return float(torch.linalg.matrix_norm(matrix, 2))


def inverse(matrix: Tensor, remedy: str) -> Tensor:
    """Return the inverse.

    Raises:
        SolverError: if the matrix is singular to working precision.
    """
    found, info = torch.linalg.inv_ex(matrix)
    size = torch.linalg.matrix_norm(matrix, 1) * torch.linalg.matrix_norm(found, 1)
    if int(info) or not bool(torch.isfinite(size)) or float(size) > 1 / _SMALLEST:
        raise SolverError(
            f"the system of {len(matrix)} equations is singular to working precision: training examples whose "
            f"gradients are the same, or depend on each other linearly, give no unique solution; {remedy}"
        )
    return found
