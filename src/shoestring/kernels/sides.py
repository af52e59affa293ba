"""One side of an outer product: dense, dense in few places, or one-hot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Rows = slice | Tensor
"""Places along the first axis of a parameter: a range, or sorted numbers."""


@dataclass(frozen=True)
class Dense:
    """Vectors v[n, c, t] of K numbers; c has one value where all outputs share them.

    Attributes:
        values: [n, C or 1, T, K].
    """

    values: Tensor

    @property
    def tokens(self) -> int:
        """T."""
        return self.values.shape[2]

    def active(self) -> Tensor | None:
        """Return None: any place may hold something."""
        return None

    def block(self, rows: Rows) -> Tensor:
        """Return the vectors' numbers in some places [n, C or 1, T, len(rows)]."""
        return self.values[..., rows]

    def part(self, start: int, stop: int) -> Dense:
        """Return examples start ... stop."""
        return Dense(self.values[start:stop])

    def kept(self, tokens: Tensor) -> Dense:
        """Return chosen tokens, [n, T'], of each example."""
        wide = tokens[:, None, :, None].expand(-1, self.values.shape[1], -1, self.values.shape[3])
        return Dense(self.values.gather(2, wide))

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        yield self.values


@dataclass(frozen=True)
class Compact:
    """Vectors that are zero but in a few places.

    Attributes:
        values: [n, C or 1, T, U].
        index: the places, sorted [U].
    """

    values: Tensor
    index: Tensor

    @property
    def tokens(self) -> int:
        """T."""
        return self.values.shape[2]

    def active(self) -> Tensor | None:
        """Return the places that may hold something."""
        return self.index

    def block(self, rows: Rows) -> Tensor:
        """Return the vectors' numbers in some places [n, C or 1, T, len(rows)]."""
        wanted = _numbers(rows, self.index)
        place, found = _look_up(wanted, self.index)
        return self.values[..., place] * found

    def part(self, start: int, stop: int) -> Compact:
        """Return examples start ... stop."""
        return Compact(self.values[start:stop], self.index)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        yield from (self.values, self.index)


@dataclass(frozen=True)
class OneHot:
    """Vectors with a single 1, the rows of an embedding that were looked up.

    Attributes:
        ids: where the 1 is [n, T].
    """

    ids: Tensor

    @property
    def tokens(self) -> int:
        """T."""
        return self.ids.shape[1]

    def active(self) -> Tensor | None:
        """Return the places that may hold something."""
        return self.ids.unique()

    def part(self, start: int, stop: int) -> OneHot:
        """Return examples start ... stop."""
        return OneHot(self.ids[start:stop])

    def kept(self, tokens: Tensor) -> OneHot:
        """Return chosen tokens, [n, T'], of each example."""
        return OneHot(self.ids.gather(1, tokens))

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is held in memory."""
        yield self.ids


Side = Dense | Compact | OneHot


def dots(one: Side, other: Side, dtype: torch.dtype) -> Tensor:
    """Return one[n, c, s] . other[m, d, t] for all pairs, as [n, c, s, m, d, t]; c and d are 1 where shared."""
    if isinstance(one, OneHot):
        if isinstance(other, OneHot):
            equal = one.ids[:, None, :, None, None, None] == other.ids[None, None, None, :, None, :]
            return equal.to(dtype)
        # other[m, d, t] at ids [n, s]: [m, d, t, n, s]
        found = other.block(one.ids.reshape(-1)).to(dtype).unflatten(-1, one.ids.shape)
        return found.permute(3, 4, 0, 1, 2)[:, None]
    if isinstance(other, OneHot):
        return dots(other, one, dtype).permute(3, 4, 5, 0, 1, 2)
    if isinstance(one, Compact):
        return _products(one.values, other.block(one.index), dtype)
    if isinstance(other, Compact):
        return _products(one.block(other.index), other.values, dtype)
    return _products(one.values, other.values, dtype)


def own_dots(one: Side, other: Side, dtype: torch.dtype) -> Tensor:
    """Return one[n, c, s] . other[n, c, t], each example with itself, as [n, c, s, t]; c is 1 where both share it."""
    if isinstance(one, OneHot):
        if isinstance(other, OneHot):
            return (one.ids[:, None, :, None] == other.ids[:, None, None, :]).to(dtype)
        parts = [other.part(place, place + 1).block(ids)[0].mT for place, ids in enumerate(one.ids)]
        return torch.stack(parts).to(dtype)
    if isinstance(other, OneHot):
        return own_dots(other, one, dtype).mT
    if isinstance(one, Compact):
        return one.values.to(dtype) @ other.block(one.index).to(dtype).mT
    if isinstance(other, Compact):
        return one.block(other.index).to(dtype) @ other.values.to(dtype).mT
    return one.values.to(dtype) @ other.values.to(dtype).mT


def _products(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    size = one.shape[-1]
    flat = one.to(dtype).reshape(-1, size) @ other.to(dtype).reshape(-1, size).T
    return flat.view(*one.shape[:3], *other.shape[:3])


def _numbers(rows: Rows, like: Tensor) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=like.device) if isinstance(rows, slice) else rows


def _look_up(wanted: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each wanted number its place in the sorted `index`, and whether it stands there."""
    place = torch.searchsorted(index, wanted).clamp_(max=len(index) - 1)
    return place, index[place] == wanted


def compact(values: Tensor) -> Dense | Compact:
    """Return vectors [n, C, T, K] in the form that takes less: without the places that are zero in all of them."""
    used = values.detach().abs().amax((0, 1, 2)).nonzero().view(-1)
    if len(used) > values.shape[-1] // 2:
        return Dense(values)
    used = used if len(used) else used.new_zeros(1)
    return Compact(values[..., used], used)
