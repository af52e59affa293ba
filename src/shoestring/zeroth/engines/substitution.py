"""Substitution: wherever a torch function receives a trained tensor, it gets the tensor at the point instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from shoestring.products import quick
from shoestring.zeroth.engines.axes import name_of, writes
from shoestring.zeroth.engines.guards import GETTER, RANDOM, TENSOR_GETTERS, refuse_randomness
from shoestring.zeroth.engines.places import place_of
from shoestring.zeroth.engines.rules import RULES
from shoestring.zeroth.engines.weights import PointWeights
from shoestring.zeroth.tensors import Trained

TRAINED = 1
_METHODS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "is_complex",
    "element_size", "storage_offset", "get_device", "__len__", "requires_grad_", "register_hook", "is_shared",
)  # fmt: skip
METADATA = frozenset(
    [getattr(Tensor, name) for name in _METHODS] + [torch.numel, torch.is_floating_point, torch.is_complex]
)
"""Functions that read no values: they are given the tensor itself."""
_ESCAPES = frozenset([Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage])


class EscapeError(Exception):
    """A trained tensor is read in a way that no substitute can serve."""


class Substitution(TorchFunctionMode):
    """Active while a closure is evaluated at one point: no module is touched, so nothing is left behind.

    Trained tensors are found by identity among the arguments of every torch function, in lists too. Large weights of
    linear layers and embeddings are made a part at a time (`rules`); everything else gets the whole tensor at the
    point. What only asks for shapes and dtypes gets the tensor itself.
    """

    def __init__(self, weights: PointWeights) -> None:
        super().__init__()
        self.weights = weights
        self._table = weights.table

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call `func` with substitutes."""
        if type(func) is GETTER and func not in TENSOR_GETTERS:
            return func(*args)
        kwargs = kwargs or {}
        if func in RANDOM:
            refuse_randomness(func, args, kwargs)
        flags = self.scan(args)
        if kwargs:
            flags |= self.scan(kwargs.values())
        if not flags or func in METADATA:
            return quick(func)(*args, **kwargs)
        escaping = self._table.get(id(args[0])) if args else None
        if escaping is not None and (func in _ESCAPES or writes(func)):
            raise EscapeError(f"{escaping.name} ({name_of(func)}{place_of(escaping.param)})")
        if func is torch.autograd.grad and flags & TRAINED:
            # No gradient reaches what is put in the place of a tensor.
            raise EscapeError(f"{self._first(args).name} (torch.autograd.grad)")
        return self._call(func, args, kwargs, flags)

    def scan(self, values: Iterable[Any]) -> int:
        """Return what is among values, as flags."""
        flags = 0
        for value in values:
            if id(value) in self._table:
                flags |= TRAINED
            elif type(value) in (list, tuple):
                flags |= self.scan(value)
        return flags

    def _first(self, values: Iterable[Any]) -> Trained:
        """Return the first trained tensor among values."""
        flat = (one for value in values for one in (value if type(value) in (list, tuple) else [value]))
        return next(self._table[id(one)] for one in flat if id(one) in self._table)

    def _call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], flags: int) -> Any:
        rule = RULES.get(func)
        made = rule(self.weights, self._lanes, args, kwargs) if rule is not None else None
        if made is not None:
            return made[0]
        return quick(func)(*self._one(args), **dict(zip(kwargs, self._one(kwargs.values()), strict=True)))

    def _lanes(self, value: Any) -> list[Any]:
        return self._one([value])

    def _one(self, values: Iterable[Any]) -> list[Any]:
        found = []
        for value in values:
            tensor = self._table.get(id(value))
            if tensor is not None:
                value = self.weights.whole(tensor)[0]
            elif type(value) in (list, tuple):
                value = type(value)(self._one(value))
            found.append(value)
        return found
