"""Updates of per-coordinate rules: the estimate is made a part at a time, as a stream, and never held whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.noise.plain import wide
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Rate

_CHUNK = 1 << 18


@dataclass(frozen=True)
class StreamUpdate(ABC):
    """theta <- (1 - lr weight_decay) theta - lr * move, part by part; sums in float32, rounded once.

    Weights that the directions never move stay as they are where a family chooses among the weights of a tensor; where
    it leaves a whole tensor alone, the tensor decays and does nothing else.

    Attributes:
        directions: the family z comes from.
        rates: of each parameter group.
        rounding: seed of stochastic rounding, or None.
    """

    directions: Directions
    rates: Sequence[Rate]
    rounding: int | None

    @abstractmethod
    def move(self, tensor: Trained, start: int, stop: int) -> Tensor:
        """Return the descent of elements start ... stop before the learning rate [n], and move their state on."""

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        """Move elements start ... stop of `tensor`, seen as one axis."""
        rate = self.rates[tensor.group]
        keep, touched = 1 - rate.lr * rate.weight_decay, self.directions.touches(tensor)
        if not touched and keep == 1:
            return
        for begin in range(start, stop, _CHUNK):
            end = min(begin + _CHUNK, stop)
            part = tensor.flat[begin:end]
            total = part.to(wide(part.dtype)) * keep
            if touched:
                total -= self.move(tensor, begin, end) * rate.lr
            chosen = self.directions.chosen(tensor, begin, end)
            if chosen is not None:
                total = torch.where(chosen, total, part.to(total.dtype))
            noise_for(part).write(part, total, tensor.key, begin, self.rounding)


def estimated(directions: Directions, terms: Sequence[Term], tensor: Trained, start: int, stop: int) -> Tensor:
    """Return elements start ... stop of the sum of coefficient * z(seed), in the dtype sums are made in."""
    total = torch.zeros(stop - start, dtype=wide(tensor.param.dtype), device=tensor.param.device)
    z = torch.empty(stop - start, dtype=torch.float32, device=tensor.param.device)
    for seed, coefficient in terms:
        directions.fill(z, tensor, seed, start)
        total += z.to(total.dtype) * coefficient
    return total


def state_of(optimizer: Optimizer, directions: Directions, tensors: Iterable[Trained], *names: str) -> None:
    """Make the state tensors `names` of all tensors that move, zero where there are none yet.

    Each has the shape of its parameter, in float32, or in float64 beside weights of float64.
    """
    for tensor in tensors:
        if directions.touches(tensor):
            state, param = optimizer.state[tensor.param], tensor.param
            for name in names:
                if name not in state:
                    state[name] = torch.zeros(param.shape, dtype=wide(param.dtype), device=param.device)
