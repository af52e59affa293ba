"""What kernels must be for solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shoestring.errors import SolverError
from shoestring.kernels.solvers.gram import Gram

if TYPE_CHECKING:
    from shoestring.kernels.solvers.base import Solver

_AXES = 4
_TOLERANCE = 1e-5
"""How far from symmetry, and below zero, rounding may take a kernel, relative to its largest entry or eigenvalue."""


def check_train(train: Gram, targets: Tensor) -> None:
    """Check that a kernel is one of examples with themselves, and that there is a target for each.

    Raises:
        SolverError: if it is not.
    """
    shape = train.values.shape
    square = len(shape) == _AXES and shape[:2] == shape[2:]
    if not square:
        raise SolverError(
            f"a training kernel of shape {list(shape)}: it must be of examples with themselves, [N, C, N, C]"
        )
    if targets.shape != shape[:2]:
        raise SolverError(f"targets of shape {list(targets.shape)} for a kernel of {list(shape)}: [N, C] is meant")


def check_test(test: Gram, shape: Sequence[int], origin: Mapping[str, Any], *, both_sides: bool) -> None:
    """Check that a kernel's rows are the examples that were fitted.

    Raises:
        SolverError: if they are not.
    """
    found = test.values.shape
    if len(found) != _AXES or tuple(found[:2]) != tuple(shape) or found[3] != shape[1]:
        wanted = f"[{shape[0]}, {shape[1]}, M, {shape[1]}]"
        raise SolverError(
            f"a kernel of shape {list(found)} for a solver that was fitted on {shape[0]} examples with {shape[1]} "
            f"outputs; {wanted} is meant, with training examples as rows"
        )
    if test.origin and origin:
        differing = [name for name in origin if origin[name] != test.origin.get(name)]
        if differing:
            raise SolverError(
                f"this kernel and the one that was fitted differ in {', '.join(differing)}: they are of another task, "
                "model or seed; compute both for the same training examples"
            )
    if both_sides and test.flipped is None:
        raise SolverError("this solver needs the flipped kernel too, of signs on the other side")
    if both_sides and test.flipped is not None and test.flipped.shape != found:
        raise SolverError(
            f"a flipped kernel of shape {list(test.flipped.shape)} beside one of {list(found)}: the same axes are meant"
        )


def check_finite(values: Tensor, what: str) -> None:
    """Check that all numbers of a kernel are finite.

    Raises:
        SolverError: if not; says where the first is.
    """
    bad = ~torch.isfinite(values)
    if bad.any():
        place = [int(number) for number in bad.nonzero()[0]]
        raise SolverError(
            f"{what} has {int(bad.sum())} numbers that are not finite, the first at {place}; gradients overflow in "
            "half precision: try model.dtype=float32"
        )


def check_ability(solver: Solver, train: Gram) -> None:
    """Check that a solver can take a kernel.

    Raises:
        SolverError: if it takes one output only, or needs a positive semi-definite kernel.
    """
    outputs = train.values.shape[1]
    if solver.binary_only and outputs > 1:
        raise SolverError(
            f"the solver {solver.name} tells two classes apart, by one output; this kernel has {outputs} outputs; "
            "use least-squares, ridge, svr or logistic"
        )
    if not solver.semidefinite:
        return
    matrix = train.flat()
    if not torch.allclose(matrix, matrix.T, rtol=0, atol=_TOLERANCE * float(matrix.abs().max())):
        raise SolverError(
            f"the solver {solver.name} needs a symmetric kernel, and this one is not; use asymmetric, ridge or "
            "least-squares"
        )
    values = torch.linalg.eigvalsh(matrix)
    if float(values[0]) < -_TOLERANCE * max(float(values[-1]), 0.0):
        raise SolverError(
            f"the solver {solver.name} needs a positive semi-definite kernel, and this one has the eigenvalue "
            f"{float(values[0]):.3g}, the largest being {float(values[-1]):.3g}"
        )
