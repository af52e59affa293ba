"""A second device, simulated: its tensors lie in the main memory, but refuse those that say they do.

Code that runs on it puts every tensor where it belongs, as a GPU would have it; numbers are those of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "simulated"
_ATEN = torch.ops.aten
_COPIES = {_ATEN._to_copy.default, _ATEN.copy_.default}
# As on a GPU, what they are indexed by may lie in the main memory.
_INDEXED = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default}


class Backend(backend_registration._DummyBackendModule):
    """What torch asks about a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@cache
def device() -> torch.device:
    """Return the device, which torch knows from now on."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    return torch.device(NAME, 0)


class There(Tensor):
    """A tensor on the device; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, held.size(), dtype=held.dtype, device=device(), **shape)
        made.held = held
        return made

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = {id(value.held): value for value in found if isinstance(value, There)}
    wrong = [value for value in found if not isinstance(value, There) and value.ndim]
    if there and wrong and func not in _COPIES | _INDEXED:
        raise RuntimeError(f"{func}: a tensor {list(wrong[0].shape)} is in the main memory, others on the device")
    wanted = kwargs.get("device")
    lies = bool(there) if wanted is None else torch.device(wanted).type == NAME

    def held(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu")
        return value.held if isinstance(value, There) else value

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor) or not lies:
            return value
        return there[id(value)] if id(value) in there else There(value)

    out = func(*tree_map(held, args), **tree_map(held, kwargs))
    return args[0] if func is _ATEN.copy_.default else tree_map(wrapped, out)


class _Operations(TorchDispatchMode):
    """Makes new tensors on the device where that is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _Moves(TorchFunctionMode):
    """What torch does before its dispatcher is asked: moving, making from Python's numbers, and back."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist:
            return func(args[0].held if isinstance(args[0], There) else args[0])
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return moved(func(*args, **{**kwargs, "device": None}), kwargs["device"])
        if func is Tensor.cpu:
            return moved(args[0], "cpu")
        if func is Tensor.to:
            other = next((value for value in args[1:] if isinstance(value, Tensor)), None)
            place = next((value for value in args[1:] if isinstance(value, (str, torch.device))), None)
            place = other.device if other is not None else kwargs.get("device", place)
            dtype = next((value for value in args[1:] if isinstance(value, torch.dtype)), kwargs.get("dtype"))
            dtype = other.dtype if other is not None else dtype
            value = args[0] if place is None else moved(args[0], place)
            return value if dtype is None else func(value, dtype, copy=kwargs.get("copy", False))
        return func(*args, **kwargs)


def moved(value: Tensor, place: Any) -> Tensor:
    """Return a tensor on the device, or in the main memory."""
    there = torch.device(place).type == NAME
    if there == isinstance(value, There):
        return value
    return There(value.detach().clone()) if there else value.held.detach().clone()  # pyright: ignore[reportAttributeAccessIssue]


def put(model: nn.Module) -> nn.Module:
    """Put a model on the device; tied weights stay tied."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is not None:
                there = There(param.detach().clone())
                module._parameters[name] = made.setdefault(id(param), nn.Parameter(there, param.requires_grad))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = There(buffer.detach().clone())
    return model


@contextmanager
def running() -> Iterator[torch.device]:
    """Let code in the block use the device."""
    with _Moves(), _Operations():
        yield device()
