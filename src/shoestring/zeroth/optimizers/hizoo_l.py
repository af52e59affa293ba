"""HiZOO-L: HiZOO whose diagonal is kept as one number a row and one a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.zeroth.base import OPTIMIZERS, Estimate
from shoestring.zeroth.directions.factored import matrix_shape, row_blocks
from shoestring.zeroth.directions.preconditioned import Root
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.optimizers.hizoo import Diagonal, HiZOO
from shoestring.zeroth.streams import state_of
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


@OPTIMIZERS.register("hizoo-l")
class HiZOOL(HiZOO):
    r"""HiZOO with a factored diagonal for matrices.

    For each matrix [m, n] (more axes are seen as [first, rest]), with rows R [m] and columns C [n],

        H = R C' / sum(R)                                      (at least `floor`)
        M = s H z^2                                            (as in HiZOO, number by number)
        R <- (1 - alpha) R + alpha M 1        C <- (1 - alpha) C + alpha M' 1

    R = n and C = m at first, so that H is 1. Points and steps are those of `HiZOO`; tensors of one axis keep a whole
    diagonal.

    Costs three forward passes a step, and one more generation of z: R and C need all of M before a weight moves.
    Memory: `state`, m + n numbers a matrix in float64 (under 1 % of its weights from 800 x 800 on in half precision),
    float32 for tensors of one axis.

    Takes what `HiZOO` takes, and raises what it raises.

    Source: Zhao et al. 2024 (arXiv 2402.15173), which names the variant.
    Differs: there is no public code of it. The factors are those of Adafactor (Shazeer and Stern 2018, arXiv
        1804.04235) put in HiZOO's recursion: our reconstruction, without the authors' confirmation. Else as HiZOO.
    """

    def diagonal(self, param: Tensor) -> Tensor:
        """Return H of a parameter, of its shape; ones before the first step."""
        self._settle()
        held = self.state.get(param, {})
        if "rows" not in held:
            return super().diagonal(param)
        product = torch.outer(held["rows"] / held["rows"].sum(), held["columns"])
        return product.to(wide(param.dtype)).clamp_(self.floor).view(param.shape)

    def root(self) -> Root:
        """Return sqrt(H) of this step: factors as they are now, whole diagonals as they are when asked for."""
        factors, diagonal = self.factors(), Diagonal(self.state, self.floor)

        def root(tensor: Trained, start: int, stop: int) -> Tensor | None:
            found = factors(tensor, start, stop)
            return diagonal(tensor, start, stop) if found is None else found

        return root

    def factors(self) -> Factors:
        """Return the factors as they are now."""
        tensors = [tensor for tensor in self.engine.tensors if "rows" in self.state.get(tensor.param, {})]
        held = [(tensor, self.state[tensor.param]) for tensor in tensors]
        return Factors({tensor.key: (state["rows"], state["columns"]) for tensor, state in held}, self.floor)

    def update(self, estimate: Estimate) -> Update:
        """Return descent along z / sqrt(H); factors are moved here, since the weights need all of them."""
        ((seed, _),) = estimate.terms
        for tensor in self.engine.tensors:
            if matrix_shape(tensor) is None:
                state_of(self, self.directions, [tensor], "excess")
            elif self.directions.touches(tensor):
                self._move(tensor, seed, estimate.extra)
        return self.descent(estimate, self.factors())

    def _move(self, tensor: Trained, seed: int, curvature: float) -> None:
        height, width = matrix_shape(tensor) or (0, 0)
        state, device = self.state[tensor.param], tensor.param.device
        dtype = torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
        if "rows" not in state:
            state["rows"] = torch.full((height,), float(width), dtype=dtype, device=device)
            state["columns"] = torch.full((width,), float(height), dtype=dtype, device=device)
        alpha, rows, columns = self.alpha, state["rows"], state["columns"]
        if not alpha:
            return
        across, down = torch.empty_like(rows), torch.zeros_like(columns)
        for block in row_blocks(tensor, 0, height * width):
            first, last = block.rows
            z = torch.empty(block.end - block.begin, dtype=torch.float32, device=device)
            self.directions.fill(z, tensor, seed, block.begin)
            squares = z.view(last - first, width).to(dtype).square_()
            across[first:last] = squares @ columns
            down += rows[first:last] @ squares
        share = alpha * curvature / float(rows.sum())
        # New tensors: an engine may still have to take back a perturbation by the old ones.
        state["rows"] = (rows * (1 - alpha) + rows * across * share).clamp_(self.floor * width)
        state["columns"] = (columns * (1 - alpha) + columns * down * share).clamp_(self.floor * height)


@dataclass(frozen=True)
class Factors:
    """sqrt(H) of factored diagonals.

    Attributes:
        held: of each tensor's key, (rows [m], columns [n]).
        floor: least value of H.
    """

    held: Mapping[int, tuple[Tensor, Tensor]]
    floor: float

    def __call__(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return sqrt(H) of elements start ... stop [n], or None where there are no factors."""
        if tensor.key not in self.held:
            return None
        rows, columns = self.held[tensor.key]
        dtype, width = wide(tensor.param.dtype), len(columns)
        first, last = start // width, -(-stop // width)
        # In that order the slices of a tensor do not differ in their last bits.
        left = (rows[first:last] / rows.sum()).to(dtype)
        product = left[:, None] * columns.to(dtype)
        return product.view(-1)[start - first * width :][: stop - start].clamp_(self.floor).sqrt_()
