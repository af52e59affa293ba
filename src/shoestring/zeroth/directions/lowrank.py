"""Directions of low rank with Gaussian factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from shoestring.seeds import derive
from shoestring.zeroth.directions.base import DIRECTIONS
from shoestring.zeroth.directions.factored import Factored, check_rank, matrix_shape, normal
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Addition, Source
from shoestring.zeroth.tensors import Trained

_SIDES = ("left", "right")
_Place = tuple[str, int, torch.device, int, int]
"""Of a factor: side, the tensor's key and device, seed, rows."""


class LowRank(Factored):
    """z = scale U V' for matrices, U [m, r] and V [n, r] of independent N(0, 1) numbers; Gaussian z for vectors.

    U comes from the direction's seed. V comes from `basis`, one for all directions, and is kept; or, where `basis` is
    None, from the direction's seed too.

    E z z' = r scale^2 I over U and V; for given V, z = scale U V' lies in the r-dimensional row space of V'.

    Args:
        rank: r.
        basis: seed of V, or None.
        scale: of matrices; vectors have none.

    Memory: (m + n) r numbers a matrix, for each direction of an evaluation.

    Source: Chen et al. 2024, LOZO, equation of LGE (arXiv 2410.07698); without a basis, r = 1: Sarkar et al. 2025,
        EGGROLL (arXiv 2511.16652).
    """

    def __init__(self, rank: int, basis: int | None = None, scale: float = 1.0) -> None:
        super().__init__(check_rank("low-rank directions", rank), basis, scale)
        self._gathered: dict[_Place, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_gathered": {}}

    def scaled(self, scale: float) -> LowRank:
        """Return the same directions, matrices times `scale` more; what is kept in memory is shared."""
        other = cast("LowRank", super().scaled(scale))
        other._gathered = self._gathered
        return other

    def left(self, tensor: Trained, seed: int, first: int, last: int) -> Tensor:
        """Return rows first ... last of scale U [m, r], float32."""
        left = self._factor("left", tensor, seed)[first:last]
        return left if self.scale == 1 else left * self.scale

    def right(self, tensor: Trained, seed: int) -> Tensor:
        """Return V [n, r], float32."""
        return self._factor("right", tensor, self._right_seed(seed))

    def gather(self, tensors: Iterable[Trained], seeds: Sequence[int]) -> None:
        """Make the factors of many matrices at once, and keep them until others are asked for."""
        wanted = {}
        for tensor in tensors:
            shape = matrix_shape(tensor)
            for seed in seeds if shape is not None else ():
                for side, own, size in zip(_SIDES, (seed, self._right_seed(seed)), shape or (), strict=True):
                    wanted[self._place(side, tensor, own, size)] = size
        before = dict(self._gathered)
        self._gathered.clear()  # Not a new one: `scaled` shares it.
        self._gathered |= {place: before[place] for place in wanted if place in before}
        missing: dict[torch.device, list[tuple[_Place, int]]] = {}
        for place, size in wanted.items():
            if place not in before:
                missing.setdefault(place[2], []).append((place, size * self.rank))
        for device, places in missing.items():
            counts = [count for _, count in places]
            parts = torch.zeros(sum(counts), dtype=torch.float32, device=device).split(counts)
            noise_for(parts[0]).add_all(
                Addition(part, Source(key, "gaussian"), [(seed, 1.0)])
                for part, ((_, key, _, seed, _), _) in zip(parts, places, strict=True)
            )
            for part, (place, _) in zip(parts, places, strict=True):
                self._gathered[place] = part.view(-1, self.rank)

    def _right_seed(self, seed: int) -> int:
        return derive(seed, "right") if self.basis is None else self.basis

    def _factor(self, side: str, tensor: Trained, seed: int) -> Tensor:
        """Return U or V of a matrix; the last ones are kept, for the update of a step, and since bases come again."""
        size = (matrix_shape(tensor) or (0, 0))[_SIDES.index(side)]
        place = self._place(side, tensor, seed, size)
        found = self._gathered.get(place)
        return (
            self.keep(place[:3], place, lambda: normal(tensor, seed, 0, (size, self.rank))) if found is None else found
        )

    @staticmethod
    def _place(side: str, tensor: Trained, seed: int, size: int) -> _Place:
        return side, tensor.key, tensor.param.device, seed, size


@DIRECTIONS.register("low-rank")
def low_rank() -> LowRank:
    """Z = u v' for matrices, u and v Gaussian and new with each direction: E z z' = I, (m + n) numbers a direction."""
    return LowRank(1)
