"""The model's own outputs as an offset."""

from __future__ import annotations

import torch
from torch import Tensor

from shoestring.errors import SolverError
from shoestring.kernels.solvers.gram import Gram


def offset(gram: Gram, scaling: float | None) -> Tensor:
    """Return f0 / s of the columns [M, C]; zeros without a scaling s.

    Raises:
        SolverError: if outputs are not known, not finite, or of another shape.
    """
    shape = gram.values.shape[2:]
    if scaling is None:
        return torch.zeros(shape, dtype=torch.float64)
    if gram.outputs is None:
        raise SolverError(
            "the model's own outputs are not given with this kernel, and are needed for an offset: leave f0_scaling "
            "out, or use a solver that begins at nothing"
        )
    if gram.outputs.shape != shape or not torch.isfinite(gram.outputs).all():
        raise SolverError(
            f"outputs of shape {list(gram.outputs.shape)} for a kernel whose columns are {list(shape)}: the same shape "
            "is needed, and finite numbers"
        )
    return gram.outputs.double() / scaling
