"""Updates of low rank that weights have not got yet, and directions around such weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Directions, Target
from shoestring.zeroth.directions.factored import Factored
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Rate, TermsUpdate

HELD = -1
"""The seed that stands for what is held; those of directions are not negative."""


@dataclass
class Share:
    """What one matrix [m, n] has not got yet: unit * left right'.

    Attributes:
        left: [m, c], float32, or float64 beside weights in that.
        rights: the right factors [n, r], float32, of its columns; one that comes again takes up no new ones.
    """

    left: Tensor
    rights: list[Tensor]

    @property
    def right(self) -> Tensor:
        """The right factor [n, c]; where there is one it is that itself, so that its columns can be shared."""
        return self.rights[0] if len(self.rights) == 1 else torch.cat(self.rights, 1)

    def take(self, left: Tensor, right: Tensor, number: float) -> None:
        """Add number * left right'."""
        begin = 0
        for kept in self.rights:
            columns = kept.shape[1]
            if kept is right:
                self.left[:, begin : begin + columns].add_(left, alpha=number)
                return
            begin += columns
        self.left = torch.cat([self.left, left.to(self.left.dtype) * number], 1)
        self.rights.append(right)


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


class Held:
    """Updates of low rank that matrices have not got yet, as factors.

    Directions that share their right factor, as those in one basis do, take up its columns once.

    Attributes:
        unit: a power of two, about the coefficient of the first update: so float16 can hold the factors.
        columns: c, of the matrix that has most.
    """

    def __init__(self) -> None:
        self.unit = 0.0
        self._shares: dict[int, Share] = {}

    @property
    def columns(self) -> int:
        """Columns c, of the matrix that has most."""
        return max((share.left.shape[1] for share in self._shares.values()), default=0)

    def columns_with(self, parts: Iterable[Part]) -> int:
        """Return how many there would be with these beside."""
        counts = {key: {id(one): one.shape[1] for one in share.rights} for key, share in self._shares.items()}
        for part in parts:
            counts.setdefault(part.tensor.key, {})[id(part.right)] = part.right.shape[1]
        return max((sum(found.values()) for found in counts.values()), default=0)

    def take(self, parts: Iterable[Part]) -> None:
        """Hold these beside what is held."""
        for tensor, left, right, number in parts:
            self.unit = self.unit or math.ldexp(1.0, math.frexp(number)[1])
            share = self._shares.get(tensor.key)
            if share is None:
                nothing = left.new_empty(len(left), 0, dtype=wide(tensor.param.dtype))
                share = self._shares[tensor.key] = Share(nothing, [])
            share.take(left, right, number / self.unit)

    def share(self, tensor: Trained) -> Share | None:
        """Return what a matrix has not got yet, in units."""
        return self._shares.get(tensor.key)

    def around(self, points: Points, matrices: Iterable[Trained]) -> Points | None:
        """Return points of weights that have got everything as points around those that have not.

        None where the directions have no factors, or leave matrices alone that something is held of.
        """
        family = points.directions
        if not isinstance(family, Factored) or type(family).prepare is not Directions.prepare:
            return None
        if any(tensor.key in self._shares and not family.touches(tensor) for tensor in matrices):
            return None
        rows = tuple((self.unit, *row) for row in points.coefficients)
        return Points(Displaced(family, self), (HELD, *points.seeds), rows)

    def update(self, like: TermsUpdate) -> TermsUpdate:
        """Return all that is held as one update, of matrices, that is rounded like another one."""
        terms = ((HELD, -self.unit),)  # Descent: an update subtracts its terms.
        return replace(like, directions=Sum(self), terms=terms, rates=[Rate(1.0, 0.0)] * len(like.rates))


class Sum(Factored):
    """What is held, in units, as a direction, whatever the seed."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.columns, None)
        self.held = held

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of L [m, c]."""
        share = self.held.share(tensor)
        return torch.zeros(last - first, 1, device=tensor.param.device) if share is None else share.left[first:last]

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return R [n, c]."""
        share = self.held.share(tensor)
        width = tensor.param[0].numel()
        return torch.zeros(width, 1, device=tensor.param.device) if share is None else share.right


class Displaced(Factored):
    """A family of low rank, with the seed `HELD` for what is held; it comes first among the seeds of points.

    Args:
        family: the directions.
        held: updates that matrices have not got yet; vectors have every one.
    """

    def __init__(self, family: Factored, held: Held) -> None:
        super().__init__(family.rank, family.basis)
        self.family, self.sum = family, Sum(held)
        self.vectors = _Moved(family.vectors)

    def touches(self, tensor: Trained) -> bool:
        """Return whether z may differ from zero in this tensor."""
        return self.family.touches(tensor)

    def gather(self, tensors: Iterable[Trained], seeds: Sequence[int]) -> None:
        """Make the factors of many matrices at once."""
        self.family.gather(tensors, [seed for seed in seeds if seed != HELD])

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of the left factor [m, r]."""
        return (self.sum if seed == HELD else self.family).left(tensor, seed, first, last)

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return the right factor [n, r]."""
        return (self.sum if seed == HELD else self.family).right(tensor, seed)


class _Moved(Directions):
    """Directions in vectors, which have got every update."""

    def __init__(self, family: Directions) -> None:
        self.family = family

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        if seed == HELD:
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
        self.family.points_all(targets, seeds[1:], [row[1:] for row in coefficients])


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
