"""The factors of directions of low rank in one evaluation, as branches at the side of products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.noise.sides import Side
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained

_FEW = 16
"""Columns up to which factors are kept for the evaluation."""
Pair = tuple[Tensor, Tensor]
"""Left [m, r] and right [n, r] of z = left right'."""


class Sides:
    """What the matrices differ by at the points; made for all at once where they are alike, which takes less time.

    Directions with the same right factor, as all in one basis have, take up its columns once.

    Args:
        points: where the weights are asked for.
        tensors: those that are perturbed.
    """

    def __init__(self, points: Points, tensors: Iterable[Trained]) -> None:
        self._points = points
        self._matrices = [tensor for tensor in tensors if tensor.param.ndim == 2]
        self._coefficients = list(zip(*points.coefficients, strict=True))  # [J][P]
        self._made: dict[tuple[int, bool], Side | None] = {}
        self._begun = False
        points.directions.gather(self._matrices, points.seeds)

    def of(self, tensor: Trained, *, turned: bool = False) -> Side | None:
        """Return what W differs by, or `turned` W'; None where its directions have no factors."""
        place = (id(tensor), turned)
        if not self._begun and not turned:
            self._begun = True
            self._make_all()
        if place in self._made:
            return self._made[place]
        pairs = self._pairs(tensor)
        if pairs is not None and turned:
            pairs = [(right, left) for left, right in pairs]
        side = None if pairs is None else self._side(tensor, pairs)
        if side is None or len(side.rights) <= _FEW:
            self._made[place] = side
        return side

    def _pairs(self, tensor: Trained) -> list[Pair] | None:
        """Return the factors of every seed."""
        found = []
        for seed in self._points.seeds:
            pair = self._points.directions.factors(tensor, seed)
            if pair is None:
                return None
            found.append(pair)
        return found

    def _side(self, tensor: Trained, pairs: Sequence[Pair]) -> Side:
        lefts: dict[int, Tensor] = {}
        rights: dict[int, Tensor] = {}
        for (left, right), numbers in zip(pairs, self._coefficients, strict=True):
            dtype = wide(tensor.param.dtype)
            scaled = left.t().to(dtype) * torch.tensor(numbers, dtype=dtype, device=left.device)[:, None, None]
            lefts[id(right)] = lefts[id(right)] + scaled if id(right) in lefts else scaled
            rights[id(right)] = right
        right = torch.cat(list(rights.values()), 1).t().to(tensor.param.dtype)
        return Side(torch.cat(list(lefts.values()), 1), right.contiguous())

    def _make_all(self) -> None:
        """Make the factors of all matrices for which every direction has the same right factor, of few columns."""
        groups: dict[tuple[torch.dtype, torch.device], list[tuple[Trained, list[Pair]]]] = {}
        for tensor in self._matrices:
            pairs = self._pairs(tensor)
            if not pairs:
                self._made[id(tensor), False] = None
            elif all(right is pairs[0][1] for _, right in pairs) and pairs[0][1].shape[1] <= _FEW:
                groups.setdefault((tensor.param.dtype, tensor.param.device), []).append((tensor, pairs))
        for (dtype, device), members in groups.items():
            numbers = torch.tensor(self._points.coefficients, dtype=wide(dtype), device=device)
            terms = zip(*(pairs for _, pairs in members), strict=True)
            flat = torch.stack([torch.cat([left.t().reshape(-1) for left, _ in term]) for term in terms])
            counts = [pairs[0][0].numel() for _, pairs in members]
            # Not as a matrix product, which CUDA may round to ten bits: updates know of no such rounding.
            lefts = (numbers[:, :, None] * flat.to(wide(dtype))).sum(1).split(counts, 1)
            flat = torch.cat([pairs[0][1].t().reshape(-1) for _, pairs in members]).to(dtype)
            rights = flat.split([pairs[0][1].numel() for _, pairs in members])
            for (tensor, pairs), left, right in zip(members, lefts, rights, strict=True):
                columns = pairs[0][1].shape[1]
                side = Side(left.unflatten(1, (columns, -1)), right.view(columns, -1))
                self._made[id(tensor), False] = side
