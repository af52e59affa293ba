"""Kernels of features that are written out."""

from __future__ import annotations

import torch
from torch import Tensor

from shoestring.kernels.solvers.gram import Gram

TRAIN, TEST, SIZE = 9, 5, 6


def features(outputs: int, count: int, seed: int, size: int = SIZE) -> Tensor:
    """Return features [N, C, P], float64."""
    return torch.randn(count, outputs, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram(rows: Tensor, columns: Tensor, outputs: Tensor | None = None) -> Gram:
    """Return the kernel of features with themselves."""
    values = torch.einsum("ncp,mdp->ncmd", rows, columns)
    return Gram(values, outputs, values)


def at_rest(rows: Tensor, columns: Tensor) -> Gram:
    """Return the kernel of features with themselves, of a model whose outputs are 0."""
    return gram(rows, columns, torch.zeros(columns.shape[:2], dtype=torch.float64))


def asymmetric(rows: Tensor, columns: Tensor) -> Gram:
    """Return the kernel of signs of the rows' features, and the flipped one."""
    values = torch.einsum("ncp,mdp->ncmd", rows.sign(), columns)
    return Gram(values, None, torch.einsum("ncp,mdp->ncmd", rows, columns.sign()))


def labels(classes: int, count: int = TRAIN) -> Tensor:
    """Return labels of all classes, in turn."""
    return torch.arange(count) % classes
