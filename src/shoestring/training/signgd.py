"""Descent by signs of gradients, as an optimizer of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SignDescent(Optimizer):
    """m <- momentum m + (1 - momentum) g;  theta <- (1 - lr weight_decay) theta - lr sign(m).

    Args:
        params: weights, or groups of them.
        lr: learning rate.
        momentum: how much of the running mean is kept; without, m = g and nothing is stored.
        weight_decay: decoupled decay.

    Source: Bernstein et al. 2018 (signSGD), algorithms 1 and 2.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make one step, after `closure` has made the gradients, where it is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                if group["weight_decay"]:
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                param.sub_(self._mean(param, group["momentum"]).sign(), alpha=group["lr"])
        return loss

    def _mean(self, param: Tensor, momentum: float) -> Tensor:
        if not momentum:
            return param.grad  # pyright: ignore[reportReturnType] - the caller has looked
        state = self.state[param]
        if not state:
            state["mean"] = torch.zeros_like(param)
        return state["mean"].mul_(momentum).add_(param.grad, alpha=1 - momentum)
