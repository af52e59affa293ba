"""Audit: whether a forward pass reads a trained tensor's memory past its substitute."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from shoestring.zeroth.engines.places import place_of
from shoestring.zeroth.engines.weights import PointWeights
from shoestring.zeroth.tensors import Trained


class Audit(TorchDispatchMode):
    """Notes every operation, however deep in the library, that reads trained memory while nobody should.

    Views and slices made before the step, traced and scripted code and replicas of a module do so: they are not the
    tensor that the optimizer knows, but its memory.

    Args:
        tensors: those that others are put in the place of.
        weights: what reads the tensors on purpose; None if nothing does.

    Attributes:
        found: name of the tensor, and the first operation that read it, with the module that was running.
    """

    def __init__(self, tensors: Iterable[Trained], weights: PointWeights | None = None) -> None:
        super().__init__()
        self._weights = weights
        held = [tensor for tensor in tensors if tensor.param.numel()]
        self._spans = sorted(((_span(tensor.param), tensor) for tensor in held), key=lambda pair: pair[0])
        self._starts = [span[0] for span, _ in self._spans]
        self.found: dict[str, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Look at one operation."""
        kwargs = kwargs or {}
        if self._weights is None or not self._weights.busy:
            with torch._C.DisableTorchFunction():  # Or the substitution would see the looking.
                self._look(func, args)
                self._look(func, kwargs.values())
        return func(*args, **kwargs)

    def listed(self, shown: int = 4) -> str:
        """Return the first few of what was found, in words."""
        return ", ".join(f"{name} ({func})" for name, func in list(self.found.items())[:shown])

    def _look(self, func: Any, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, Tensor) and value.device.type != "meta" and value.numel():
                tensor = self._owner(value)
                if tensor is not None and tensor.name not in self.found:
                    self.found[tensor.name] = f"{func}{place_of(tensor.param)}"
            elif isinstance(value, (list, tuple)):
                self._look(func, value)

    def _owner(self, value: Tensor) -> Trained | None:
        start, end = _span(value)
        place = bisect_right(self._starts, end - 1) - 1
        if place < 0:
            return None
        (_, stop), tensor = self._spans[place]
        return tensor if start < stop else None


def _span(tensor: Tensor) -> tuple[int, int]:
    start = tensor.data_ptr()
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (steps + 1) * tensor.element_size()
