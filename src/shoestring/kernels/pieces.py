"""Gradients of one parameter, by example and output, in the form in which backward passes give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shoestring.kernels.sides import Compact, Dense, OneHot, Rows, Side, dots, own_dots

_SPARE = 2  # tokens are left out where that leaves at most one in so many


@dataclass(frozen=True)
class Outer:
    """G[n, c] = sum_t left[n, c, t] (x) right[n, c, t], what a linear map or an embedding gives.

    Attributes:
        left: along the first axis of the parameter.
        right: along the others.
    """

    left: Side
    right: Dense

    def add_to(self, out: Tensor, rows: Rows) -> None:
        """Add the gradients in some rows of the parameter to out [n, C, len(rows), width]."""
        right = self.right.values.to(out.dtype)
        if isinstance(self.left, OneHot):
            _scatter(out, self.left.ids, right, rows)
            return
        left = self.left.block(rows).to(out.dtype)
        count, outputs, tall, width = out.shape
        left = left.mT.expand(-1, outputs, -1, -1).reshape(count * outputs, tall, -1)
        right = right.expand(-1, outputs, -1, -1).reshape(count * outputs, -1, width)
        out.view(count * outputs, tall, width).baddbmm_(left, right)

    def active(self) -> Tensor | None:
        """Return the rows that may hold something; None for all of them."""
        return self.left.active()

    def part(self, start: int, stop: int) -> Outer:
        """Return the gradients of examples start ... stop."""
        return Outer(self.left.part(start, stop), self.right.part(start, stop))

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        yield from self.left.tensors()
        yield from self.right.tensors()

    @property
    def tokens(self) -> int:
        """Terms of the sum."""
        return self.right.tokens


@dataclass(frozen=True)
class Spread:
    """How large the terms of a sum are, to which its rounding is in proportion; of the shape of the sum.

    Attributes:
        sizes: sum |term|.
        squares: sum term^2 of terms in half precision; None of others.
    """

    sizes: Tensor
    squares: Tensor | None

    def __add__(self, other: Spread) -> Spread:
        """Return that of both sums together."""
        squares = None if self.squares is None or other.squares is None else self.squares + other.squares
        return Spread(self.sizes + other.sizes, squares)


@dataclass(frozen=True)
class Flat:
    """G[n, c], written out.

    Attributes:
        values: [n, C, rows, width]; a vector has width 1.
        spread: of a sum of which nobody has looked yet whether it cancels.
    """

    values: Tensor
    spread: Spread | None = None

    def add_to(self, out: Tensor, rows: Rows) -> None:
        """Add the gradients in some rows of the parameter to out [n, C, len(rows), width]."""
        out += self.values[:, :, rows].to(out.dtype)

    def active(self) -> Tensor | None:
        """Return None: any row may hold something."""
        return None

    def part(self, start: int, stop: int) -> Flat:
        """Return the gradients of examples start ... stop."""
        return Flat(self.values[start:stop])

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        yield self.values


Piece = Outer | Flat


def contract(one: Outer, other: Outer, dtype: torch.dtype) -> Tensor:
    """Return <G[n, c], H[m, d]> = sum_st (left_s . left_t) (right_s . right_t), [n, C, m, D] in float64.

    No gradient is written out: T^2 dot products a pair instead of as many numbers as the parameter has.
    """
    products = dots(one.left, other.left, dtype) * dots(one.right, other.right, dtype)
    return products.sum((2, 5), dtype=torch.float64)


def own_contract(one: Outer, other: Outer, dtype: torch.dtype) -> Tensor:
    """Return <G[n, c], H[n, c]> of each example with itself, [n, C] in float64."""
    products = own_dots(one.left, other.left, dtype) * own_dots(one.right, other.right, dtype)
    return products.sum((2, 3), dtype=torch.float64)


def thinned(piece: Outer) -> Outer:
    """Return the same sum without terms that are zero, where that leaves at most half of them.

    After the last attention of a model only the position that is read has a gradient.
    """
    used = (piece.right.values != 0).any((1, 3))
    if isinstance(piece.left, Dense):
        used = used & (piece.left.values != 0).any((1, 3))
    most = max(1, int(used.sum(1).amax()))
    if isinstance(piece.left, Compact) or most * _SPARE > piece.tokens:
        return piece
    # Stable, so that terms stay in order; what stands beyond an example's own are zeros.
    tokens = used.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return Outer(piece.left.kept(tokens), piece.right.kept(tokens))


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Return fewer pieces of the same sum: those of modules that are called several times are joined."""
    found: list[Piece] = []
    for piece in pieces:
        place = next((place for place, other in enumerate(found) if _alike(piece, other)), None)
        if place is None:
            found.append(piece)
        else:
            found[place] = _joined(found[place], piece)
    return found


def _alike(one: Piece, other: Piece) -> bool:
    if isinstance(one, Flat) or isinstance(other, Flat):
        return isinstance(one, Flat) and isinstance(other, Flat)
    if type(one.left) is not type(other.left) or isinstance(one.left, Compact):
        return False
    shapes = [[side.values.shape[1] for side in (p.left, p.right) if isinstance(side, Dense)] for p in (one, other)]
    return shapes[0] == shapes[1]


def _joined(one: Piece, other: Piece) -> Piece:
    if isinstance(one, Flat) and isinstance(other, Flat):
        spread = None if one.spread is None or other.spread is None else one.spread + other.spread
        return Flat(one.values + other.values, spread)
    if not isinstance(one, Outer) or not isinstance(other, Outer):
        raise TypeError("only pieces of one kind are joined")
    right = Dense(torch.cat((one.right.values, other.right.values), 2))
    if isinstance(one.left, OneHot) and isinstance(other.left, OneHot):
        return Outer(OneHot(torch.cat((one.left.ids, other.left.ids), 1)), right)
    left = torch.cat([side.values for side in (one.left, other.left) if not isinstance(side, OneHot)], 2)
    return Outer(Dense(left), right)


def _scatter(out: Tensor, ids: Tensor, right: Tensor, rows: Rows) -> None:
    """Add right[n, c, t] to out[n, c, ids[n, t]], for ids among `rows`."""
    if isinstance(rows, slice):
        place = ids - rows.start
        inside = (place >= 0) & (place < out.shape[2])
    else:
        place = torch.searchsorted(rows, ids.contiguous()).clamp_(max=len(rows) - 1)
        inside = rows[place] == ids
    example, token = inside.nonzero(as_tuple=True)
    # The advanced indices around the slice come first: [K, C, width].
    out.permute(0, 2, 1, 3).index_put_(
        (example, place[example, token]), right[example, :, token].expand(-1, out.shape[1], -1), accumulate=True
    )


@dataclass(frozen=True)
class Gradients:
    """Gradients of one parameter for the examples of a block, in the order in which they were captured.

    Attributes:
        batches: the pieces of each batch, whose sum is the gradient.
        counts: examples of each batch.
        outputs: C.
        shape: first axis of the parameter, and all others as one.
    """

    batches: tuple[tuple[Piece, ...], ...]
    counts: tuple[int, ...]
    outputs: int
    shape: tuple[int, int]

    @property
    def total(self) -> int:
        """Examples."""
        return sum(self.counts)

    @cached_property
    def active(self) -> Tensor | None:
        """The rows of the parameter in which some gradient may be something, sorted; None for all of them."""
        found = [piece.active() for pieces in self.batches for piece in pieces]
        if any(rows is None for rows in found):
            return None
        return torch.cat([rows for rows in found if rows is not None]).unique() if found else None

    @property
    def contractible(self) -> bool:
        """Whether every piece is a sum of outer products."""
        return all(isinstance(piece, Outer) for pieces in self.batches for piece in pieces)

    def block(self, rows: Rows, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the gradients in some rows, written out: [total * C, len(rows) * width]."""
        tall = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        out = torch.zeros((self.total, self.outputs, tall, self.shape[1]), dtype=dtype, device=device)
        start = 0
        for pieces, count in zip(self.batches, self.counts, strict=True):
            for piece in pieces:
                piece.add_to(out[start : start + count], rows)
            start += count
        return out.view(self.total * self.outputs, -1)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        for pieces in self.batches:
            for piece in pieces:
                yield from piece.tensors()
