"""Random projections of gradients: kernels of many examples from few numbers an example, with a known error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from shoestring.errors import KernelError
from shoestring.kernels.pieces import Flat, Outer, Piece
from shoestring.kernels.sides import OneHot
from shoestring.kernels.sketches import Sketcher
from shoestring.seeds import torch_stream

Distribution = Literal["rademacher", "normal"]

_SPAN = 1 << 12


@dataclass(frozen=True)
class Projection:
    """Replaces the gradient G of a matrix by L G R^T and that of a vector by L G, with random L and R.

    L and R have `side` rows, side^2 for a vector's, of independent numbers of mean 0 and variance 1 / side: inner
    products are right in expectation. An axis that is no longer than that is kept as it is. Numbers follow from (seed,
    the parameter's name, the axis), whatever else is computed, wherever.

    The error of a kernel's entry, independent from parameter to parameter p, is at most, in one standard deviation,

        sqrt(sum_p ((1 + 2 / side)^2 - 1) |G_p|^2 |H_p|^2)

    Attributes:
        seed: of all numbers.
        side: numbers that are kept of each axis.
        distribution: of the numbers.
    """

    seed: int
    side: int = 32
    distribution: Distribution = "rademacher"

    def __post_init__(self) -> None:
        """Check the side.

        Raises:
            KernelError: if there is none.
        """
        if self.side < 1:
            raise KernelError(f"side={self.side}: a projection keeps at least one number of each axis")

    @property
    def relative_error(self) -> float:
        """Most that one standard deviation of <G, H> can be, over |G| |H|; reached where one parameter has all.

        >>> round(Projection(seed=0, side=64).relative_error, 3)
        0.252
        """
        return math.sqrt((1 + 2 / self.side) ** 2 - 1)

    def sketcher(self) -> Sketcher:
        """Return what projects captured gradients."""
        return _Projecting(self)

    def numbers(self, name: str, axis: str, size: int, first: int, last: int) -> Tensor:
        """Return columns first ... last of the random matrix of an axis, [kept, last - first], float32.

        They come in spans of 2^12, each from a stream of its own, so that no more has to be held or made.
        """
        kept = self.kept(size, axis)
        if kept == size:
            return torch.eye(size, dtype=torch.float32)[:, first:last]
        spans = []
        for span in range(first // _SPAN, (last - 1) // _SPAN + 1):
            stream = torch_stream(self.seed, "projection", name, axis, kept, span)
            if self.distribution == "normal":
                drawn = torch.randn((_SPAN, kept), generator=stream, dtype=torch.float32)
            else:
                drawn = torch.randint(0, 2, (_SPAN, kept), generator=stream, dtype=torch.int8).float() * 2 - 1
            spans.append(drawn)
        start = first // _SPAN * _SPAN
        return torch.cat(spans)[first - start : last - start].T / math.sqrt(kept)

    def kept(self, size: int, axis: str) -> int:
        """Return the numbers that are kept of an axis; "vector" for the only one."""
        return min(size, self.side**2 if axis == "vector" else self.side)


class _Projecting(Sketcher):
    """Projects captured gradients. Random matrices are made when they are needed, and the last ones are kept."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of what it makes of a parameter of some shape."""
        rows, width = shape
        if width == 1:
            return self._projection.kept(rows, "vector"), 1
        return self._projection.kept(rows, "rows"), self._projection.kept(width, "width")

    def of(self, pieces: Sequence[Piece], name: str, shape: tuple[int, int]) -> tuple[Piece, ...]:
        """Return the projected gradients of one parameter, of one batch."""
        parts = [self._outer(p, name, shape) if isinstance(p, Outer) else self._flat(p, name, shape) for p in pieces]
        if not parts:
            return ()
        return (Flat(torch.stack(parts).sum(0)),)

    def _outer(self, piece: Outer, name: str, shape: tuple[int, int]) -> Tensor:
        """Return sum_t (L left_t) (R right_t)^T, [n, C, kept, kept]: the gradient itself is never made."""
        right = self._reduced(piece.right.values, name, "width", shape[1])
        if isinstance(piece.left, OneHot):
            left = self._looked_up(piece.left.ids, name, shape[0]).to(right)[:, None]
        else:
            left = torch.zeros((), dtype=right.dtype, device=right.device)
            for start in range(0, shape[0], _SPAN):
                span = slice(start, min(start + _SPAN, shape[0]))
                part = piece.left.block(span).to(right.dtype)
                numbers = self._projection.numbers(name, "rows", shape[0], span.start, span.stop)
                left = left + part @ numbers.to(right).T
        return left.mT @ right

    def _flat(self, piece: Flat, name: str, shape: tuple[int, int]) -> Tensor:
        values = piece.values
        values = values if values.dtype == torch.float64 else values.float()
        if shape[1] > 1:
            values = self._reduced(values, name, "width", shape[1])
        axis = "vector" if shape[1] == 1 else "rows"
        return self._reduced(values.mT, name, axis, shape[0]).mT

    def _reduced(self, values: Tensor, name: str, axis: str, size: int) -> Tensor:
        """Return the random matrix times the last axis."""
        values = values if values.dtype == torch.float64 else values.float()
        found = torch.zeros((), dtype=values.dtype, device=values.device)
        for start in range(0, size, _SPAN):
            stop = min(start + _SPAN, size)
            numbers = self._projection.numbers(name, axis, size, start, stop)
            found = found + values[..., start:stop] @ numbers.to(values).T
        return found

    def _looked_up(self, ids: Tensor, name: str, size: int) -> Tensor:
        """Return the columns of the random matrix for ids [n, T], as [n, T, kept]."""
        kept = self._projection.kept(size, "rows")
        found = torch.zeros((*ids.shape, kept), dtype=torch.float32, device=ids.device)
        for span in (ids // _SPAN).unique().tolist():
            start, stop = span * _SPAN, min((span + 1) * _SPAN, size)
            numbers = self._projection.numbers(name, "rows", size, start, stop).to(ids.device)
            here = (ids >= start) & (ids < stop)
            found[here] = numbers.T[ids[here] - start]
        return found
