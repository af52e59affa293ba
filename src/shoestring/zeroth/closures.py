"""Closures: how an optimizer asks for the loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from shoestring.errors import OptimizerError, TrajectoryError

Closure = Callable[[], "Tensor | float"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PerExample:
    """A closure whose batch may be repeated, so that one forward pass evaluates several points.

    Attributes:
        losses: returns the losses [N] of a batch, one an example; none may depend on other examples.
        micro_batches: batches, in each of which every tensor has the N examples as its first axis.

    Called like any closure it returns the mean over micro-batches of the mean over examples.

    >>> double = PerExample(lambda batch: batch["x"] * 2, [{"x": torch.tensor([1.0, 3.0])}])
    >>> float(double())
    4.0
    """

    losses: Callable[[dict[str, Tensor]], Tensor]
    micro_batches: Sequence[dict[str, Tensor]]

    def __post_init__(self) -> None:
        """Refuse what has no batches, or can be gone through once only.

        Raises:
            OptimizerError: if it is so.
        """
        if not isinstance(self.micro_batches, Sequence) or not self.micro_batches:
            what = "none" if isinstance(self.micro_batches, Sequence) else type(self.micro_batches).__name__
            raise OptimizerError(
                f"PerExample: micro_batches={what}; give a list of batches: PerExample(losses, [batch])"
            )

    def __call__(self) -> Tensor:
        """Return the loss, a scalar."""
        return self.mean(None)

    def mean(self, rows: int | None) -> Tensor:
        """Return the loss, a scalar, from forward passes of at most `rows` examples, None for whole micro-batches.

        Losses in half precision are averaged in float32.
        """
        return torch.stack([self._mean(batch, rows) for batch in self.micro_batches]).mean()

    def _mean(self, batch: dict[str, Tensor], rows: int | None) -> Tensor:
        found = [self._losses(part) for part in pieces(batch, rows)]
        losses = found[0] if len(found) == 1 else torch.cat(found)
        return losses.to(torch.promote_types(losses.dtype, torch.float32)).mean()

    def _losses(self, batch: dict[str, Tensor]) -> Tensor:
        losses = self.losses(batch)
        if not isinstance(losses, Tensor) or not losses.ndim:
            found = "one number" if isinstance(losses, (Tensor, float)) else type(losses).__name__
            raise OptimizerError(f"PerExample: losses returned {found}; it must return a tensor of one loss an example")
        return losses


def pieces(batch: dict[str, Tensor], rows: int | None) -> Iterator[dict[str, Tensor]]:
    """Yield a batch in pieces of at most `rows` examples; None leaves it whole.

    Raises:
        OptimizerError: if it has no examples, or is to be cut and not all tensors have them as their first axis.
    """
    count = _rows(next(iter(batch.values()), None))
    if not count:
        raise OptimizerError(
            f"PerExample: a batch of {sorted(batch)} has no examples: its first entry must be a tensor [N, ...]"
        )
    if rows is None or rows >= count:
        yield batch
        return
    for name, value in batch.items():
        if _rows(value) != count:
            found = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise OptimizerError(
                f"PerExample: {name} is {found}, and there are {count} examples: a batch that is cut for max_rows must "
                "have them as the first axis of everything; what they share belongs into the function of losses"
            )
    for start in range(0, count, max(1, rows)):
        yield {name: value[start : start + max(1, rows)] for name, value in batch.items()}


def _rows(value: Any) -> int:
    """Return the length of a tensor's first axis, or of a list; 0 for what has none."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 0
    return len(value) if isinstance(value, (list, tuple)) else 0


class Recorded:
    """A closure that gives the answers of a logged step once more, in their order."""

    def __init__(self, answers: Sequence[float]) -> None:
        self._left = list(reversed(answers))

    def __call__(self) -> float:
        """Return the next answer.

        Raises:
            TrajectoryError: if there is none left: the log is of another optimizer.
        """
        return self.take(1)[0]

    def take(self, count: int) -> list[float]:
        """Return the next `count` answers."""
        if count > len(self._left):
            raise TrajectoryError("the optimizer asks for more losses than were logged for this step")
        return [self._left.pop() for _ in range(count)]

    def __len__(self) -> int:
        return len(self._left)


def evaluate(closure: Closure) -> float:
    """Return the loss as a number.

    Raises:
        OptimizerError: if the closure calls `backward()`, or returns something else than a loss.
    """
    torch.clear_autocast_cache()  # Of an autocast around the step: it has weights as they were at another point.
    try:
        loss = closure()
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise OptimizerError(
                "the closure of a zeroth-order optimizer returns the loss and must not call backward()"
            ) from error
        raise
    if isinstance(loss, Tensor) and loss.dtype in (torch.float16, torch.bfloat16):
        warn_of_coarse_loss(loss.dtype)
    try:
        if not isinstance(loss, Tensor) or loss.numel() == 1:
            return float(loss)
        found = f"a tensor of shape {list(loss.shape)}"
    except (TypeError, ValueError):
        found = type(loss).__name__
    raise OptimizerError(
        f"the closure returned {found}; it must return the loss, one number: lambda: model(**batch).loss"
    )


@cache
def warn_of_coarse_loss(dtype: torch.dtype) -> None:
    """Say, once in a process, that slopes cannot be told from losses of so few digits."""
    _LOG.warning(
        "the closure's loss is %s, with steps of %.1g around 1: differences of losses are mostly rounding; compute it "
        "in float32, from logits.float()",
        dtype,
        torch.finfo(dtype).eps,
    )
