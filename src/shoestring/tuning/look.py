"""What a tuning may see of the training set before it chooses weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Look:
    """A training set, seen through the loss on it.

    Attributes:
        count: number of training examples.
        losses: gives the losses [n] of the examples with these numbers, from 0 to count - 1, at the model's present
            weights, with gradients where they are on. It is what training will minimise, or, where that has no
            gradient, the usual loss of the task.
    """

    count: int
    losses: Callable[[Sequence[int]], Tensor]


@runtime_checkable
class Looking(Protocol):
    """A tuning that may look at training examples before it chooses."""

    @property
    def looks(self) -> bool:
        """Whether it does, with these settings."""
        ...

    def apply_with(self, model: PreTrainedModel, seed: int, look: Look) -> PreTrainedModel:
        """Do what `apply` does, having looked at examples. The weights are left as they were found."""
        ...
