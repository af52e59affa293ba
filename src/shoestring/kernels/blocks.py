"""Blocks of rows of a kernel, by themselves and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.kernels.formulas.base import FORMULAS, Formula

Block = dict[str, Tensor]
"""Named tensors, float64 on the CPU: what one block of rows has come to."""


def kernel_key(formula: str, layer: int) -> str:
    """Return the name of a formula's part [R, C, columns, C] in a block."""
    return f"kernel/{formula}/{layer}"


def squares_key(side: str, map_name: str, layer: int) -> str:
    """Return the name of squared norms, of "row" [R, C] or "column" [M, C], in a block."""
    return f"{side}_squares/{map_name}/{layer}"


@dataclass(frozen=True)
class Layout:
    """How blocks make up a kernel.

    Of a kernel of examples with themselves a block holds only columns from its own first row on, and for a formula that
    is not symmetric the flipped formula too: what is left of it is the transpose of what stands there.

    Attributes:
        blocks: first and last row of each.
        columns: M.
        outputs: C.
        symmetric: whether rows and columns are the same examples.
        formulas: what is asked for.
        layers: names of layers; ("",) for all in one.
    """

    blocks: tuple[tuple[int, int], ...]
    columns: int
    outputs: int
    symmetric: bool
    formulas: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def rows(self) -> int:
        """N."""
        return self.blocks[-1][1]

    def computed(self) -> list[Formula]:
        """Return the formulas that blocks hold: the flipped ones too where their transposes are needed."""
        names = dict.fromkeys(self.formulas)
        if self.symmetric and len(self.blocks) > 1:
            names |= dict.fromkeys(FORMULAS.get(name).flipped for name in self.formulas)
        return [FORMULAS.get(name) for name in names]

    def empty(self, number: int) -> Block:
        """Return a block of zeros."""
        (first, last), count = self.blocks[number], self.outputs
        width = self.columns - first if self.symmetric else self.columns
        shapes: dict[str, tuple[int, ...]] = {"row_outputs": (last - first, count)}
        if not self.symmetric and number == 0:
            shapes["column_outputs"] = (self.columns, count)
        for layer in range(len(self.layers)):
            for formula in self.computed():
                shapes[kernel_key(formula.name, layer)] = (last - first, count, width, count)
                shapes[squares_key("row", formula.left.name, layer)] = (last - first, count)
                if self.symmetric:
                    shapes[squares_key("column", formula.right.name, layer)] = (last - first, count)
                elif number == 0:
                    shapes[squares_key("column", formula.right.name, layer)] = (self.columns, count)
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}


def assembled(layout: Layout, blocks: Sequence[Mapping[str, Tensor]], formula: str, layer: int) -> Tensor:
    """Return one formula's kernel [N, C, M, C] of all layers (`layer` is the only one) or of one."""
    shape = (layout.rows, layout.outputs, layout.columns, layout.outputs)
    found = torch.zeros(shape, dtype=torch.float64)
    flipped = FORMULAS.get(formula).flipped
    for (first, last), block in zip(layout.blocks, blocks, strict=True):
        start = first if layout.symmetric else 0
        found[first:last, :, start:] = block[kernel_key(formula, layer)]
        if layout.symmetric and last < layout.rows:
            beyond = block[kernel_key(flipped, layer)][:, :, last - first :]
            found[last:, :, first:last] = beyond.permute(2, 3, 0, 1)
    return found


def joined(layout: Layout, blocks: Sequence[Mapping[str, Tensor]], side: str, name: str) -> Tensor:
    """Return outputs or squared norms of all rows, or of all columns."""
    key = f"{side}_{name}"
    if side == "column" and not layout.symmetric:
        return blocks[0][key]
    if key == "column_outputs":
        key = "row_outputs"
    return torch.cat([block[key] for block in blocks])
