"""Attention to a single key, whose gradients are exact zeros that fused kernels round."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PLACES = ("query", "key", "value", "attn_mask")


class SingleKeys(TorchFunctionMode):
    """Gives nothing back to queries, keys and biases of attention to a single key, inside the block.

    A softmax of one number is 1 whatever the number, as in a decoder of one token. Fused kernels take two roundings of
    one number from each other, and every sign of what is left would count the same. No value is changed.

    Differs: LM-Kernel-FT takes the sign of what rounding leaves.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            named = dict(zip(_PLACES, args, strict=False))
            key = named["key"] if "key" in named else kwargs["key"]
            if key.shape[-2] == 1:
                args = tuple(arg if place == 2 else _without_gradient(arg) for place, arg in enumerate(args))
                kwargs = {name: arg if name == "value" else _without_gradient(arg) for name, arg in kwargs.items()}
        return func(*args, **kwargs)


def _without_gradient(value: Any) -> Any:
    """Return the same tensor with a gradient of zeros: without any, what made it would seem to have no part."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    seen = value.view_as(value)
    seen.register_hook(torch.zeros_like)
    return seen
