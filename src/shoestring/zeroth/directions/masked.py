"""Directions that move chosen weights only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.masks import Mask
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.tensors import Trained


class Masked(Directions):
    """Base directions laid over the chosen elements of each tensor, 0 elsewhere.

    The k-th chosen element gets the base's k-th number, so only as many numbers are made as weights move. Weights that
    are not chosen are never written, by an evaluation, an update or its weight decay.

    Args:
        base: directions of independent numbers.
        masks: by the tensor's name; a tensor without one is left alone.
    """

    def __init__(self, base: Directions, masks: Mapping[str, Mask]) -> None:
        self.base = base
        self.masks = masks

    def touches(self, tensor: Trained) -> bool:
        """Return whether any element is chosen."""
        return tensor.name in self.masks and self.masks[tensor.name].count > 0 and self.base.touches(tensor)

    def chosen(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return which of the elements start ... stop are chosen [n], bool."""
        found = torch.zeros(stop - start, dtype=torch.bool, device=tensor.param.device)
        if self.touches(tensor):
            found[self._inside(tensor, start, stop)[0]] = True
        return found

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] of `tensor`, seen as one axis, to `out` [n], float32."""
        out.zero_()
        if self.touches(tensor):
            places, before = self._inside(tensor, start, start + len(out))
            few = torch.empty(len(places), dtype=torch.float32, device=out.device)
            self.base.fill(few, tensor, seed, before)
            out[places] = few

    def add(
        self,
        weight: Tensor,
        tensor: Trained,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place, chosen elements only."""
        if self.touches(tensor):
            places, before = self._inside(tensor, start, start + len(weight))
            few = weight[places]
            self.base.add(few, tensor, terms, before, keep, rounding)
            weight[places] = few

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
        outs[:] = weight
        if self.touches(tensor):
            places, before = self._inside(tensor, start, start + len(weight))
            few = torch.empty(len(outs), len(places), dtype=outs.dtype, device=outs.device)
            self.base.points(few, weight[places], tensor, seeds, coefficients, before)
            outs[:, places] = few

    def _inside(self, tensor: Trained, start: int, stop: int) -> tuple[Tensor, int]:
        return self.masks[tensor.name].inside(start, stop)
