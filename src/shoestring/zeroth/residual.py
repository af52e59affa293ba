"""Residuals: what half-precision weights are too coarse to hold, kept beside them so that no update is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update

RESIDUAL = "residual"
_HALF = (torch.bfloat16, torch.float16)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WithResidual:
    """Makes an update in float32, on weight plus residual, and splits the result into the two again.

    A bfloat16 weight and its residual are the two halves of a float32 number, so that updates are exact to float32. For
    float16 this holds from 2^-16 on; below, what is kept is a multiple of 2^-39. Float32 and float64 weights are
    updated as they are. Losses are evaluated at the weights alone.

    Memory: two bytes a half-precision weight, and a float32 copy of one chunk.

    Attributes:
        update: the update.
        state: of the optimizer; the residual [n], int16, is kept at each tensor.
    """

    update: Update
    state: dict[Any, Any]

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        """Move elements start ... stop of `tensor`, seen as one axis."""
        if tensor.param.dtype not in _HALF:
            self.update(tensor, start, stop)
            return
        kept = self.state[tensor.param]
        if RESIDUAL not in kept:
            kept[RESIDUAL] = torch.zeros(tensor.param.numel(), dtype=torch.int16, device=tensor.param.device)
        for begin in range(start, stop, _CHUNK):
            end = min(begin + _CHUNK, stop)
            weight, residual = tensor.flat[begin:end], kept[RESIDUAL][begin:end]
            whole = join(weight, residual)
            self.update(_Widened(tensor.key, tensor.name, tensor.param, tensor.group, whole, begin), begin, end)
            split(whole, weight, residual)


def join(weight: Tensor, residual: Tensor) -> Tensor:
    """Return weight + residual as float32 [n]; `weight` [n] bfloat16 or float16, `residual` [n] int16."""
    if weight.dtype is torch.bfloat16:
        bits = (weight.view(torch.int16).to(torch.int32) << 16) + residual.to(torch.int32)
        return bits.view(torch.float32)
    wide = weight.to(torch.float32)
    return wide + torch.ldexp(residual.to(torch.float32), _unit(wide))


def split(whole: Tensor, weight: Tensor, residual: Tensor) -> None:
    """Write float32 `whole` [n], rounded to the nearest, to `weight` [n], and the rest to `residual` [n] int16.

    For bfloat16 numbers half-way are rounded away from zero, so that the rest of bits always fits in 16.
    """
    if weight.dtype is torch.bfloat16:
        bits = whole.view(torch.int32).masked_fill(whole.isnan(), 0x7FC00000)  # Others would carry into the sign.
        high = (bits + (1 << 15)) >> 16
        weight.view(torch.int16).copy_(high)
        residual.copy_(bits - (high << 16))
        return
    weight.copy_(whole)
    wide = weight.to(torch.float32)
    rest = torch.ldexp(whole - wide, -_unit(wide)).round()
    residual.copy_(rest.nan_to_num(0.0))


def _unit(wide: Tensor) -> Tensor:
    """Return the exponent of a residual's unit: 2^-15 of the distance between float16 numbers at `wide` [n]."""
    exponent = torch.frexp(wide).exponent - 1
    return exponent.masked_fill(wide == 0, -14).clamp(min=-14) - 25


@dataclass(frozen=True, eq=False)
class _Widened(Trained):
    """A tensor of which one part is seen in float32, for an update to move it there."""

    whole: Tensor
    start: int

    @property
    def flat(self) -> Tensor:
        """The weights as one axis, of which only the part there is can be asked for."""
        return cast("Tensor", _Part(self.whole, self.start))


@dataclass(frozen=True)
class _Part:
    """Elements start ... of a longer axis, sliced by their place in that."""

    whole: Tensor
    start: int

    def __getitem__(self, part: slice) -> Tensor:
        return self.whole[part.start - self.start : part.stop - self.start]
