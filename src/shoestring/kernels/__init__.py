"""Kernels: inner products of the gradients of a model's scores, exact, for all pairs of examples."""

from shoestring.kernels.compute import Request, compute_kernels, read_kernels
from shoestring.kernels.formulas.base import FORMULAS, Formula
from shoestring.kernels.jacobians import jacobians
from shoestring.kernels.kernel import Kernel
from shoestring.kernels.outputs import Outputs, outputs_of
from shoestring.kernels.projection import Projection
from shoestring.kernels.published import Published, read_published, write_published
from shoestring.kernels.settings import KernelSettings

__all__ = [
    "FORMULAS",
    "Formula",
    "Kernel",
    "KernelSettings",
    "Outputs",
    "Projection",
    "Published",
    "Request",
    "compute_kernels",
    "jacobians",
    "outputs_of",
    "read_kernels",
    "read_published",
    "write_published",
]
