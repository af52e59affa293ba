"""A kernel: inner products of gradients of all pairs of examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kernel:
    """K[n, c, m, d] = <left(J_A[n, c]), right(J_B[m, d])>.

    Attributes:
        formula: the formula's name.
        values: [N, C, M, C], float64, on the CPU.
        row_norms: |left(J_A[n, c])|, [N, C].
        column_norms: |right(J_B[m, d])|, [M, C].
        row_outputs: f(A), [N, C].
        column_outputs: f(B), [M, C].
        rows: where the rows come from, such as `train:17`.
        columns: where the columns come from.
        layers: the part of each layer, by name, where they were asked for; they sum to the whole.
        description: what it depends on.
    """

    formula: str
    values: Tensor
    row_norms: Tensor
    column_norms: Tensor
    row_outputs: Tensor
    column_outputs: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    layers: Mapping[str, Kernel] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)

    def flat(self) -> Tensor:
        """Return the kernel as a matrix [N * C, M * C], example by example."""
        count, outputs, others, columns = self.values.shape
        return self.values.reshape(count * outputs, others * columns)

    def cosine(self) -> Kernel:
        """Return the cosines of the angles between gradients: K[n, c, m, d] over both norms; 0 where a norm is."""
        rows, columns = (_inverse(norms) for norms in (self.row_norms, self.column_norms))
        return replace(
            self,
            values=self.values * rows[:, :, None, None] * columns,
            row_norms=(self.row_norms > 0).double(),
            column_norms=(self.column_norms > 0).double(),
            layers={name: layer.cosine() for name, layer in self.layers.items()},
        )


def _inverse(norms: Tensor) -> Tensor:
    return torch.where(norms > 0, 1 / torch.where(norms > 0, norms, 1.0), 0.0)
