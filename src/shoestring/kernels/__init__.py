"""Kernels: inner products of the gradients of a model's scores, exact, for all pairs of examples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoestring.kernels.compute import Request, compute_kernels, read_kernels
    from shoestring.kernels.formulas.base import FORMULAS, Formula
    from shoestring.kernels.jacobian import jacobians
    from shoestring.kernels.kernel import Kernel
    from shoestring.kernels.movement import Drift, Linearised, displacement, drift, linearised
    from shoestring.kernels.outputs import Outputs, outputs_of
    from shoestring.kernels.projection import Projection
    from shoestring.kernels.published import Published, read_published, write_published
    from shoestring.kernels.settings import KernelSettings
    from shoestring.kernels.solvers.base import SOLVERS, Solver
    from shoestring.kernels.solvers.fitted import Fitted
    from shoestring.kernels.solvers.gram import Gram, gram_of
    from shoestring.kernels.solvers.targets import coded, scores_of

__all__ = [
    "FORMULAS",
    "SOLVERS",
    "Drift",
    "Fitted",
    "Formula",
    "Gram",
    "Kernel",
    "KernelSettings",
    "Linearised",
    "Outputs",
    "Projection",
    "Published",
    "Request",
    "Solver",
    "coded",
    "compute_kernels",
    "displacement",
    "drift",
    "gram_of",
    "jacobians",
    "linearised",
    "outputs_of",
    "read_kernels",
    "read_published",
    "scores_of",
    "write_published",
]

# Where each name is from; they are imported when they are asked for, since settings are read without torch.
_PLACES = {
    "compute": ("Request", "compute_kernels", "read_kernels"),
    "formulas.base": ("FORMULAS", "Formula"),
    "jacobian": ("jacobians",),
    "kernel": ("Kernel",),
    "movement": ("Drift", "Linearised", "displacement", "drift", "linearised"),
    "outputs": ("Outputs", "outputs_of"),
    "projection": ("Projection",),
    "published": ("Published", "read_published", "write_published"),
    "settings": ("KernelSettings",),
    "solvers.base": ("SOLVERS", "Solver"),
    "solvers.fitted": ("Fitted",),
    "solvers.gram": ("Gram", "gram_of"),
    "solvers.targets": ("coded", "scores_of"),
}


def __getattr__(name: str) -> object:
    """Import a name from the module that has it."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
