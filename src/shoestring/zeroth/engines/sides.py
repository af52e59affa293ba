"""What points of low rank add at the side of a product: x (W + c U V')' = x W' + c (x V) U'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained

_FEW = 16


class Side(NamedTuple):
    """The factors of a matrix W [m, n] for all seeds, one below the other, in the dtype of the matrix.

    Attributes:
        lefts: size * U' [sum of r, m].
        rights: V' [sum of r, n].
        scales: coefficients over size [P, 1, sum of r].
    """

    lefts: Tensor
    rights: Tensor
    scales: Tensor

    def turned(self) -> Side:
        """Return the factors of W'."""
        return Side(self.rights, self.lefts, self.scales)

    def add_to(self, out: Tensor, biases: Sequence[Tensor | None], x: Tensor) -> None:
        """Write b + sum of coefficient * (x V) U' at every point to `out` [P, N, m]; `x` [P N, n], b [m] or None.

        As one product for all points, biases being further rows: it takes less time than a sum for each of them.
        """
        count, rows, _ = out.shape
        columns = len(self.rights)
        inner = (x @ self.rights.t()).view(count, rows, columns)
        if columns == 1 and x.dtype.itemsize > 2:
            for lane, bias in enumerate(biases):
                start = out[lane].zero_() if bias is None else bias
                torch.addcmul(start, inner[lane] * self.scales[lane], self.lefts, out=out[lane])
            return
        added = [bias[None] for bias in biases if bias is not None]
        made = inner.new_empty(count, rows, columns + len(added))
        torch.mul(inner, self.scales, out=made[:, :, :columns])
        if added:
            made[:, :, columns:] = _eye(count, made.dtype, made.device)
        torch.mm(made.flatten(0, 1), torch.cat([self.lefts, *added]) if added else self.lefts, out=out.flatten(0, 1))


class Sides:
    """The factors of all matrices in one evaluation; those of few columns are made at once, which takes less time.

    Args:
        points: where the weights are asked for.
        tensors: that are perturbed.
    """

    def __init__(self, points: Points, tensors: Iterable[Trained]) -> None:
        self._points = points
        directions = points.directions
        matrices = [tensor for tensor in tensors if tensor.param.ndim == 2]
        directions.gather(matrices, points.seeds)
        pairs = {id(tensor): _pairs(directions, tensor, points.seeds) for tensor in matrices}
        self._pairs = {key: found for key, found in pairs.items() if found is not None}
        self._made: dict[int, Side] = {}
        groups: dict[tuple[torch.dtype, torch.device], list[Trained]] = {}
        for tensor in matrices:
            if 0 < sum(right.shape[1] for _, right in self._pairs.get(id(tensor), ())) <= _FEW:
                groups.setdefault((tensor.param.dtype, tensor.param.device), []).append(tensor)
        for members in groups.values():
            self._made |= zip(map(id, members), self._make(members), strict=True)

    def of(self, tensor: Trained) -> Side | None:
        """Return the factors of a tensor; None where its directions have none."""
        if id(tensor) not in self._pairs:
            return None
        return self._made.get(id(tensor)) or self._make([tensor])[0]

    def _make(self, tensors: Sequence[Trained]) -> list[Side]:
        """Return the factors of matrices of one dtype on one device."""
        dtype, device = tensors[0].param.dtype, tensors[0].param.device
        pairs = [self._pairs[id(tensor)] for tensor in tensors]
        counts = [tuple(right.shape[1] for _, right in found) for found in pairs]
        size = _size(self._points.coefficients)
        both = []
        for place, factor in enumerate((size, 1.0)):
            flat = torch.cat([pair[place].t().reshape(-1) for pair in chain.from_iterable(pairs)]).to(wide(dtype))
            parts = (
                (flat * factor if factor != 1 else flat)
                .to(dtype)
                .split([sum(pair[place].numel() for pair in found) for found in pairs])
            )
            both.append([part.view(sum(count), -1) for part, count in zip(parts, counts, strict=True)])
        scales = [_scales(self._points.coefficients, count, dtype, device) for count in counts]
        return [Side(*parts) for parts in zip(*both, scales, strict=True)]


def _pairs(directions: Directions, tensor: Trained, seeds: Sequence[int]) -> list[tuple[Tensor, Tensor]] | None:
    found = [directions.factors(tensor, seed) for seed in seeds]
    pairs = [pair for pair in found if pair is not None]
    return pairs if len(pairs) == len(found) else None


def _size(coefficients: Sequence[Sequence[float]]) -> float:
    """Return the largest coefficient; the others are relative to it, since float16 cannot hold tiny numbers."""
    return max((abs(number) for row in coefficients for number in row), default=0.0) or 1.0


@lru_cache(maxsize=64)
def _scales(
    coefficients: tuple[tuple[float, ...], ...], columns: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return coefficients of columns over the largest one [P, 1, sum of r]."""
    size = _size(coefficients)
    table = [
        [number / size for number, count in zip(row, columns, strict=True) for _ in range(count)]
        for row in coefficients
    ]
    return torch.tensor(table, dtype=dtype, device=device)[:, None]


@lru_cache(maxsize=64)
def _eye(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(count, dtype=dtype, device=device)[:, None]
