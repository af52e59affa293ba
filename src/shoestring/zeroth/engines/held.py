"""Updates of low rank that weights have not got yet, and directions around such weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Directions, Target
from shoestring.zeroth.directions.factored import Factored
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Rate, TermsUpdate

_FIRST = -1
"""Seeds that stand for what is held are -1, -2, ...; those of directions are not negative."""


class Part(NamedTuple):
    """What a matrix is to get: number * left right'.

    Attributes:
        tensor: the matrix [m, n].
        left: [m, r], float32.
        right: [n, r], float32.
        number: the coefficient, not 0.
    """

    tensor: Trained
    left: Tensor
    right: Tensor
    number: float


class Piece(NamedTuple):
    """What a matrix has not got yet in one basis: unit * left right'.

    Attributes:
        left: [m, r], float32, or float64 beside weights in that.
        right: [n, r], float32.
    """

    left: Tensor
    right: Tensor


class Held:
    """Updates of low rank that matrices have not got yet, as factors.

    Directions that share their right factor, as those in one basis do, take up its columns once.

    Attributes:
        unit: a power of two, about the coefficient of the first update: so float16 can hold the factors.
    """

    def __init__(self) -> None:
        self.unit = 0.0
        self._pieces: dict[int, list[Piece]] = {}

    def columns_with(self, parts: Iterable[Part]) -> int:
        """Return how many columns the matrix that has most would have with these beside."""
        counts = {key: {id(right): right.shape[1] for _, right in pieces} for key, pieces in self._pieces.items()}
        for part in parts:
            counts.setdefault(part.tensor.key, {})[id(part.right)] = part.right.shape[1]
        return max((sum(found.values()) for found in counts.values()), default=0)

    def take(self, parts: Iterable[Part]) -> None:
        """Hold these beside what is held."""
        for tensor, left, right, number in parts:
            self.unit = self.unit or math.ldexp(1.0, math.frexp(number)[1])
            pieces = self._pieces.setdefault(tensor.key, [])
            before = next((piece for piece in pieces if piece.right is right), None)
            if before is None:
                pieces.append(Piece(left.to(wide(tensor.param.dtype)) * (number / self.unit), right))
            else:
                before.left.add_(left, alpha=number / self.unit)

    def pieces(self, tensor: Trained) -> Sequence[Piece]:
        """Return what a tensor has not got yet, in units; nothing of vectors."""
        return self._pieces.get(tensor.key, ())

    def around(self, points: Points, matrices: Iterable[Trained]) -> Points | None:
        """Return points of weights that have got everything as points around those that have not.

        None where the directions have no factors, or leave matrices alone that something is held of.
        """
        family = points.directions
        if not isinstance(family, Factored) or type(family).prepare is not Directions.prepare:
            return None
        if any(tensor.key in self._pieces and not family.touches(tensor) for tensor in matrices):
            return None
        count = max(map(len, self._pieces.values()))
        seeds = (*(_FIRST - place for place in range(count)), *points.seeds)
        return Points(
            Displaced(family, self), seeds, tuple((*[self.unit] * count, *row) for row in points.coefficients)
        )

    def update(self, like: TermsUpdate) -> TermsUpdate:
        """Return all that is held as one update, of matrices, that is rounded like another one."""
        terms = ((_FIRST, -self.unit),)  # Descent: an update subtracts its terms.
        rank = max(sum(right.shape[1] for _, right in pieces) for pieces in self._pieces.values())
        return replace(like, directions=Sum(self, rank), terms=terms, rates=[Rate(1.0, 0.0)] * len(like.rates))


class Sum(Factored):
    """All that is held of a matrix, in units, as one direction, whatever the seed.

    Args:
        held: what is held; asked for those matrices only of which something is.
        rank: columns of the matrix that has most.
    """

    def __init__(self, held: Held, rank: int) -> None:
        super().__init__(rank, None)
        self.held = held

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of the left factor [m, c]."""
        # Weights in another dtype than they had are left with what fits them.
        lefts = [left[first:last] for left, _ in self.held.pieces(tensor)]
        return torch.cat(lefts, 1).to(wide(tensor.param.dtype))

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return the right factor [n, c]."""
        return torch.cat([right for _, right in self.held.pieces(tensor)], 1)


class Displaced(Factored):
    """A family of low rank, with negative seeds for the pieces that are held; they come first among those of points.

    Args:
        family: the directions.
        held: updates that matrices have not got yet; vectors have every one.
    """

    def __init__(self, family: Factored, held: Held) -> None:
        super().__init__(family.rank, family.basis)
        self.family, self.held = family, held
        self.vectors = _Moved(family.vectors)

    def touches(self, tensor: Trained) -> bool:
        """Return whether z may differ from zero in this tensor."""
        return self.family.touches(tensor)

    def gather(self, tensors: Iterable[Trained], seeds: Sequence[int]) -> None:
        """Make the factors of many matrices at once."""
        self.family.gather(tensors, seeds[_own(seeds) :])

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of the left factor [m, r]."""
        if seed >= 0:
            return self.family.left(tensor, seed, first, last)
        return self._piece(tensor, seed).left[first:last]

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return the right factor [n, r]."""
        return self.family.right(tensor, seed) if seed >= 0 else self._piece(tensor, seed).right

    def _piece(self, tensor: Trained, seed: int) -> Piece:
        pieces, place = self.held.pieces(tensor), _FIRST - seed
        if place < len(pieces):
            return pieces[place]
        param = tensor.param  # There are more pieces of other matrices.
        right = torch.zeros(param[0].numel(), 1, dtype=torch.float32, device=param.device)
        return Piece(param.new_zeros(param.shape[0], 1, dtype=wide(param.dtype)), right)


class _Moved(Directions):
    """Directions in vectors, which have got every update."""

    def __init__(self, family: Directions) -> None:
        self.family = family

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        if seed < 0:
            out.zero_()
        else:
            self.family.fill(out, tensor, seed, start)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        self.points_all([Target(outs, weight, tensor, start)], seeds, coefficients)

    def points_all(
        self, targets: Iterable[Target], seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> None:
        first = _own(seeds)
        self.family.points_all(targets, seeds[first:], [row[first:] for row in coefficients])


def _own(seeds: Sequence[int]) -> int:
    """Return how many seeds come before those of the family."""
    return sum(seed < 0 for seed in seeds)


def parts_of(update: TermsUpdate, matrices: Iterable[Trained]) -> list[Part] | None:
    """Return what an update adds to matrices, as factors; None where its directions have none."""
    directions = update.directions
    if not isinstance(directions, Factored):
        return None
    return [
        Part(tensor, directions.left(tensor, seed, 0, tensor.param.shape[0]), directions.right(tensor, seed), number)
        for tensor in matrices
        for seed, number in update.on(tensor)[1]
        if number
    ]
