"""Directions of low rank: z = left right' for matrices, so that a direction costs (m + n) r numbers, not m n."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.zeroth.directions.base import Directions, Move, Target
from shoestring.zeroth.directions.dense import Dense, by_backend
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Factors, Products, Source, Term
from shoestring.zeroth.noise.plain import outer_sum, wide
from shoestring.zeroth.tensors import Trained

_BLOCK = 1 << 16
_FEW = 8
"""Columns up to which a sum of products, element by element, is no slower than a matrix product."""


@dataclass(frozen=True)
class Block:
    """Some elements of a matrix, and the whole rows they lie in.

    Rows are grouped in one way for each matrix, wherever a slice of it begins: sums of products depend in their last
    bit on how many rows are multiplied at once, and a direction must not depend on the slice it is asked for.

    Attributes:
        rows: first row and end of rows.
        begin: place of the first element in the tensor seen as one axis.
        end: of the elements.
        skip: elements of those rows before `begin`.
    """

    rows: tuple[int, int]
    begin: int
    end: int
    skip: int

    def of(self, rows: Tensor) -> Tensor:
        """Return the elements [end - begin] of `rows`, the product of those whole rows."""
        return rows.view(-1)[self.skip : self.skip + self.end - self.begin]


class Factored(Directions):
    """z = left right' where a tensor has two axes or more, seen as [first axis, rest]; independent numbers elsewhere.

    A family writes `left`, which is to contain `scale`, and `right`.

    Attributes:
        rank: columns of the factors, where a matrix is large enough.
        basis: seed of what all directions have in common, or None.
        scale: of matrices; vectors have none.
        vectors: the directions in tensors of one axis.

    Memory: the factors, and one block of rows of the product.
    """

    def __init__(self, rank: int, basis: int | None, scale: float = 1.0) -> None:
        self.rank = rank
        self.basis = basis
        self.scale = scale
        self.vectors: Directions = Dense("gaussian")
        self._kept: dict[Any, tuple[Any, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    @abstractmethod
    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of the left factor [m, r], float32, on the device of the tensor."""

    @abstractmethod
    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return the right factor [n, r], float32, on the device of the tensor."""

    def scaled(self, scale: float) -> Factored:
        """Return the same directions, matrices times `scale` more; what is kept in memory is shared."""
        other = copy(self)
        other._kept = self._kept
        other.scale = self.scale * scale
        return other

    def factors(self, tensor: Trained, seed: int) -> tuple[Tensor, Tensor] | None:
        """Return (left [m, r], right [n, r]) with z = left right'; None for tensors of one axis."""
        shape = matrix_shape(tensor)
        if shape is None:
            return None
        return self.left(tensor, seed, 0, shape[0]), self.right(tensor, seed)

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] of `tensor`, seen as one axis, to `out` [n], float32."""
        if matrix_shape(tensor) is None:
            self.vectors.fill(out, tensor, seed, start)
            return
        for block, (z,) in self._blocks(tensor, [seed], start, start + len(out)):
            out[block.begin - start : block.end - start] = z

    def add(
        self,
        weight: Tensor,
        tensor: Trained,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place; `weight` [n] from `start`."""
        if matrix_shape(tensor) is None:
            self.vectors.add(weight, tensor, terms, start, keep, rounding)
            return
        if self._few(weight):
            self.add_all([Move(weight, tensor, terms, start, keep)], rounding)
            return
        seeds = [seed for seed, _ in terms]
        for block, zs in self._blocks(tensor, seeds, start, start + len(weight)):
            part = weight[block.begin - start : block.end - start]
            total = part.to(wide(part.dtype))  # the weights themselves, where they are in full precision
            if keep != 1:
                total.mul_(keep)
            for z, (_, coefficient) in zip(zs, terms, strict=True):
                total.add_(z.to(total.dtype).mul_(coefficient))
            if total is not part:
                noise_for(part).write(part, total, tensor.key, block.begin, rounding)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] z(seeds[j])) to `outs` [P, n]; `weight` [n]."""
        if matrix_shape(tensor) is None:
            self.vectors.points(outs, weight, tensor, seeds, coefficients, start)
            return
        for block, zs in self._blocks(tensor, seeds, start, start + len(weight)):
            place = slice(block.begin - start, block.end - start)
            part = weight[place].to(wide(weight.dtype))
            sums = [part for _ in coefficients]
            for column, z in enumerate(zs):
                sums = _plus(sums, z, [row[column] for row in coefficients])
            for point, total in enumerate(sums):
                outs[point, place] = total.to(outs.dtype)

    def add_all(self, moves: Iterable[Move], rounding: int | None = None) -> None:
        """Do what `add` does to many stretches of weights, at once where they are vectors or the factors are few."""
        vectors, products = [], []
        for move in moves:
            weight, tensor, terms, start, keep = move
            if matrix_shape(tensor) is None:
                vectors.append(move)
            elif self._few(weight):
                pairs = [(self._factors(tensor, seed), coefficient) for seed, coefficient in terms]
                products.append(Products(weight, tensor.key, pairs, start, keep))
            else:
                self.add(*move, rounding)
        self.vectors.add_all(vectors, rounding)
        for noise, members in by_backend(products):
            noise.add_products(members, rounding)

    def _few(self, weight: Tensor) -> bool:
        """Return whether products are summed element by element; float64 weights are not, since factors are float32."""
        return self.rank <= _FEW and weight.dtype.itemsize <= 4

    def points_all(
        self, targets: Iterable[Target], seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> None:
        """Do what `points` does for many stretches of weights; for all vectors at once."""
        vectors = []
        for target in targets:
            if matrix_shape(target.tensor) is None:
                vectors.append(target)
            else:
                self.points(*target[:3], seeds, coefficients, target.start)
        self.vectors.points_all(vectors, seeds, coefficients)

    def rows(
        self,
        outs: Tensor,
        weight: Tensor,
        index: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
    ) -> None:
        """Like `points` for some rows of a matrix: `weight` [V, D], `index` [R] int64, `outs` [P, R, D].

        Equal to `points` up to the last bit of z: other rows are multiplied at once.
        """
        part = weight[index].to(wide(weight.dtype))
        sums = [part for _ in coefficients]
        for column, seed in enumerate(seeds):
            left = self.left(tensor, seed, 0, weight.shape[0])[index]
            z = _product(left, self.right(tensor, seed))
            sums = _plus(sums, z, [row[column] for row in coefficients])
        for point, total in enumerate(sums):
            outs[point] = total.to(outs.dtype)

    def _factors(self, tensor: Trained, seed: int) -> Factors:
        left, right = self.left(tensor, seed, 0, tensor.param.shape[0]), self.right(tensor, seed)
        return Factors(left.contiguous(), right.contiguous())

    def _blocks(
        self, tensor: Trained, seeds: Sequence[int], start: int, stop: int
    ) -> Iterator[tuple[Block, Iterator[Tensor]]]:
        """Yield parts of start ... stop, and for each the elements of z of every seed, made one at a time."""
        blocks = list(row_blocks(tensor, start, stop))
        if not blocks:
            return
        first, last = blocks[0].rows[0], blocks[-1].rows[1]
        factors = [(self.left(tensor, seed, first, last), self.right(tensor, seed)) for seed in seeds]
        for block in blocks:
            here = slice(block.rows[0] - first, block.rows[1] - first)
            yield block, (block.of(_product(left[here], right)) for left, right in factors)

    def keep(self, place: Any, what: Any, make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` makes, kept in `place` until something else than `what` is asked for there."""
        kept = self._kept.get(place)
        if kept is None or kept[0] != what:
            kept = self._kept[place] = (what, make())
        return kept[1]


def check_rank(directions: str, rank: int) -> int:
    """Return the rank as an int.

    Raises:
        OptimizerError: if it is not a whole number of at least 1.
    """
    if not isinstance(rank, (Real, Tensor)) or not math.isfinite(rank) or rank < 1 or rank != int(rank):
        raise OptimizerError(f"{directions}: rank={rank!r}; it must be a whole number and at least 1")
    return int(rank)


def normal(tensor: Trained, seed: int, start: int, shape: tuple[int, int]) -> Tensor:
    """Return independent N(0, 1) numbers of shape `shape`, number `start` of the tensor's stream being the first."""
    out = torch.empty(shape[0] * shape[1], dtype=torch.float32, device=tensor.param.device)
    noise_for(out).fill(out, Source(tensor.key, "gaussian"), seed, start)
    return out.view(shape)


def matrix_shape(tensor: Trained) -> tuple[int, int] | None:
    """Return (m, n) of a tensor seen as [first axis, rest]; None where it has one axis, or none, or no elements."""
    param = tensor.param
    if param.ndim < 2 or not param.numel():
        return None
    return param.shape[0], param.numel() // param.shape[0]


def row_blocks(tensor: Trained, start: int, stop: int) -> Iterator[Block]:
    """Yield the blocks of rows that elements start ... stop of a matrix lie in."""
    shape = matrix_shape(tensor)
    if shape is None or start >= stop:
        return
    height, width = shape
    size = max(1, _BLOCK // width)
    for first in range(start // width // size * size, -(-stop // width), size):
        rows = (first, min(first + size, height))
        begin, end = max(start, rows[0] * width), min(stop, rows[1] * width)
        yield Block(rows, begin, end, begin - rows[0] * width)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return left right'; of few columns by the sum that `Noise.add_products` makes."""
    if left.shape[1] <= _FEW:
        return outer_sum(left, right)
    # Inside a forward pass under autocast the product would be made, and rounded, in half precision.
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.T.to(left.dtype)


def _plus(sums: list[Tensor], z: Tensor, coefficients: Sequence[float]) -> list[Tensor]:
    """Return sums[p] + coefficients[p] z."""
    return [
        total + z.to(total.dtype) * coefficient if coefficient else total
        for total, coefficient in zip(sums, coefficients, strict=True)
    ]
