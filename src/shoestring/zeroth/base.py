"""What every zeroth-order optimizer is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from shoestring.seeds import derive

Closure = Callable[[], "Tensor | float"]
Term = tuple[int, float]
"""A direction seed and its coefficient: an update is a list of terms, theta -= lr * sum coefficient * z(seed)."""


class ZerothOrder(Optimizer):
    """An optimizer that evaluates a closure, without gradients, a fixed number of times a step.

    A step is *estimate*, which evaluates the loss and leaves the weights as they were, and *apply*, which moves them.
    `step(closure)` does both; a trainer that calls `step()` itself calls `estimate(closure)` first.

    Attributes:
        last_loss: the loss of the last estimate.
        last_projected_grads: the projected gradients of the last estimate, one a direction.
    """

    # On the class, since a copied or unpickled optimizer has its parameter groups and nothing else.
    last_loss: Tensor | None = None
    last_projected_grads: tuple[float, ...] = ()

    @abstractmethod
    def estimate(self, closure: Closure) -> Tensor:
        """Evaluate the loss, remember the update, leave the weights as they were; return the loss, detached."""

    def finalize(self) -> None:
        """Apply what is still to be applied: called before weights are evaluated or saved. Nothing, here."""

    def trained(self) -> Iterator[tuple[int, dict[str, Any], Tensor]]:
        """Yield the key of its directions, the group, and the tensor, for each tensor that requires a gradient.

        The key is a hash of the tensor's name, or its place where the optimizer was given tensors without names. With
        names (`model.named_parameters()`), a tensor's directions do not depend on which others are trained, or how
        they are grouped.
        """
        place = 0
        for group in self.param_groups:
            for offset, param in enumerate(group["params"]):
                names = group.get("param_names")
                if param.requires_grad:
                    yield (_key(names[offset]) if names is not None else place), group, param
                place += 1


@cache
def _key(name: str) -> int:
    return derive(0, "tensor", name)
