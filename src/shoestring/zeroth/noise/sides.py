"""What directions of low rank add at the side of a product: x (W + U_p V')' = x W' + (x V) U_p' at points p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Side(NamedTuple):
    """What a matrix W [m, n] differs by at P points, U_p V'.

    Attributes:
        lefts: U_p', coefficients included [P, r, m], float32 (float64 beside weights in that).
        rights: V' [r, n], contiguous, in the dtype of the matrix.
    """

    lefts: Tensor
    rights: Tensor


def add_side(out: Tensor, x: Tensor, biases: Sequence[Tensor | None], side: Side) -> None:
    """Add b_p + (x V) U_p' to `out` [P, N, m]; `x` [P N, n], b_p [m]: a bias for every point, or none for any.

    As one product: a bias is one more row of U_p', and its number 1.
    """
    inner = (x @ side.rights.t()).view(*out.shape[:2], len(side.rights))
    lefts = side.lefts.to(out.dtype)
    given = [bias for bias in biases if bias is not None]
    if given:
        inner, lefts = functional.pad(inner, (0, 1), value=1), torch.cat([lefts, torch.stack(given)[:, None]], 1)
    out.baddbmm_(inner, lefts)
