"""The mean loss since the last line of the log."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningLoss:
    """Sums losses from one line of the log to the next, also across an interruption between them.

    The Trainer's own sum begins anew wherever a training is taken up again.

    Args:
        total: the sum of the losses since the last line.
        step: the step of that line; 0 before there is one.
    """

    def __init__(self, total: float = 0.0, step: int = 0) -> None:
        self._total, self._step = torch.tensor(total, dtype=torch.float32), step

    def add(self, loss: Tensor) -> None:
        """Add a loss [], without waiting for the device that computes it."""
        self._total = self._total.to(loss.device)
        self._total += loss.detach()

    def take(self, step: int) -> float:
        """Return the mean over the steps up to the line of `step`, and begin behind it."""
        mean = self._total.item() / max(1, step - self._step)
        self._total, self._step = torch.zeros_like(self._total), step
        return mean

    @property
    def unlogged(self) -> tuple[float, int]:
        """What a checkpoint keeps: the arguments that make it again."""
        return self._total.item(), self._step
