"""Where positions meet: watching a forward pass for the last function that may move anything between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_Rule = Callable[[Sequence[Any], dict[str, Any], Any], bool]
# Names as torch spells them. All functions that have no rule below are taken for mixing.
_ELEMENTWISE = frozenset(
    ["add", "sub", "rsub", "mul", "div", "true_divide", "pow", "neg", "abs", "exp", "log", "erf", "sqrt", "rsqrt",
     "square", "tanh", "sigmoid", "relu", "relu6", "gelu", "silu", "mish", "elu", "leaky_relu", "softplus", "hardtanh",
     "clamp", "clip", "clamp_min", "clamp_max", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__",
     "__truediv__", "__rtruediv__", "__pow__", "__neg__", "to", "float", "half", "bfloat16", "double", "type",
     "type_as", "contiguous", "clone", "detach", "dropout"]
)  # fmt: skip
_METADATA = frozenset(
    ["size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "__len__",
     "element_size", "get_device", "shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_cpu", "is_mps",
     "is_meta", "is_sparse", "is_nested", "requires_grad", "itemsize", "data_ptr"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Call:
    module: nn.Module
    begun: int
    fits: bool


class Recorder(TorchFunctionMode):
    """Active around one forward pass: notes when modules are called, and when positions may have met for the last time.

    Args:
        model: watched.
        head: its output embedding, at which watching ends.
        shape: [N, L] of the ids it reads.
    """

    def __init__(self, model: nn.Module, head: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self._model, self._head, self._shapes = model, head, (shape, torch.Size([shape.numel()]))
        # The head has to have all positions, and so has all that it is part of, and what has tunings hung on it, some
        # of which keep what they read. Scripted modules take no hooks.
        kept = {part for part in model.modules() if part is head or any(map(_is_tuning, _hooks_of(part)))}
        scripted = torch.jit.ScriptModule
        self._left = {one for one in model.modules() if isinstance(one, scripted) or not kept.isdisjoint(one.modules())}
        # Hooks of others may look at any position of what a module reads and gives.
        self._foreign = {one for one in model.modules() if not all(map(_is_tuning, _hooks_of(one)))}
        self._clock = self._mixed = 0
        self._over = self._complete = False
        self._calls: list[_Call] = []
        self._begun: list[tuple[int, bool]] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Recorder:
        with ExitStack() as stack:
            stack.callback(self._head.register_forward_pre_hook(self._at_head).remove)
            for module in self._model.modules():
                if module in self._foreign:
                    stack.callback(module.register_forward_pre_hook(self._mix).remove)
                    stack.callback(module.register_forward_hook(self._mix).remove)
                if module not in self._left:
                    before = module.register_forward_pre_hook(self._before, with_kwargs=True)
                    stack.callback(before.remove)
                    stack.callback(module.register_forward_hook(self._behind).remove)
            super().__enter__()
            self._hooks = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._hooks.close()

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call `func`, and note whether it may mix positions."""
        out = func(*args, **(kwargs or {}))
        if not keeps_positions(func, args, kwargs or {}, out, self._shapes):
            self._mix()
        return out

    def found(self) -> list[nn.Module]:
        """Return the modules whose every call came behind the last mixing, outermost ones, without the head."""
        if not self._complete or _global_hooks():
            return []
        late: dict[nn.Module, bool] = {}
        for call in self._calls:
            late[call.module] = late.get(call.module, True) and call.fits and call.begun >= self._mixed
        kept = [module for module, is_late in late.items() if is_late]
        inner = {part for module in kept for part in module.modules() if part is not module}
        return [module for module in kept if module not in inner]

    def _at_head(self, head: nn.Module, args: tuple[Any, ...]) -> None:
        self._complete = not self._over and bool(args) and args[0].shape[:-1] == self._shapes[0]
        self._over = True

    def _mix(self, *_: Any) -> None:
        if not self._over:
            self._clock += 1
            self._mixed = self._clock

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = (*args, *kwargs.values())
        tensors = [value for value in values if isinstance(value, Tensor)]
        held = any(isinstance(value, (list, tuple, dict)) for value in values)
        self._begun.append((self._clock, bool(tensors) and not held and all(map(self._fits, tensors))))

    def _behind(self, module: nn.Module, args: Any, output: Any) -> None:
        begun, fits = self._begun.pop()
        # Dropout, which does nothing now, would be narrowed for nothing.
        works = isinstance(output, Tensor) and not any(_is_same(output, arg) for arg in args)
        fits = fits and works and self._fits(output) and not self._over
        self._calls.append(_Call(module, begun, fits))

    def _fits(self, value: Tensor) -> bool:
        return value.is_floating_point() and value.shape[:-1] in self._shapes


def keeps_positions(
    func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, shapes: Sequence[torch.Size]
) -> bool:
    """Return whether each position of a result [N, L, ...] or [N L, ...] follows from that position of what goes in.

    Args:
        func: the torch function.
        args: its arguments.
        kwargs: its keyword arguments.
        out: its result.
        shapes: [N, L] and [N L].
    """
    name = _name_of(func)
    if name in _METADATA:
        return True
    rule = _RULES.get(name)
    if rule is None or not args or not isinstance(args[0], Tensor) or kwargs.get("inplace") or "out" in kwargs:
        return False
    # What works along the last axis must not find positions there.
    x = args[1] if name == "addmm" else args[0]
    return rule(args, kwargs, out) and (name not in _FEATURES or x.shape[:-1] in shapes)


def _elementwise(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    """Return whether no operand was repeated along an axis of another one, as pairs of all positions would be."""
    return out.numel() == max(value.numel() for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


def _view(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    return args[0].shape[-1:] == out.shape[-1:]


def _whole(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    """Return whether an index takes everything, as `[:, slice(0, None)]` does."""
    parts = args[1] if isinstance(args[1], tuple) else (args[1],)
    return out.shape == args[0].shape and all(isinstance(part, slice) or part is Ellipsis for part in parts)


def _along_last(place: int) -> _Rule:
    """Return the rule of functions that are told, as argument `place`, which axes they work along."""

    def rule(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
        axis = kwargs["dim"] if "dim" in kwargs else args[place] if len(args) > place else None
        axes = axis if isinstance(axis, (list, tuple)) else (axis,)
        return all(isinstance(one, int) and one in (-1, args[0].ndim - 1) for one in axes)

    return rule


def _norm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    return len(args[1] if len(args) > 1 else kwargs["normalized_shape"]) == 1


def _linear(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    return isinstance(args[1] if len(args) > 1 else kwargs["weight"], nn.Parameter)


def _addmm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    return len(args) == 3 and isinstance(args[0], nn.Parameter) and isinstance(args[2], nn.Parameter)


_FEATURES: dict[str, _Rule] = {
    **dict.fromkeys(["mean", "sum", "var"], _along_last(1)),
    **dict.fromkeys(["chunk", "split"], _along_last(2)),
    **dict.fromkeys(["layer_norm", "rms_norm"], _norm),
    "linear": _linear,
    "addmm": _addmm,
}
_RULES: dict[str, _Rule] = _FEATURES | {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(["view", "reshape", "flatten"], _view),
    "__getitem__": _whole,
}


def _is_same(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _global_hooks() -> bool:
    """Return whether others hung something on every module there is."""
    return bool(nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks)


def _hooks_of(module: nn.Module) -> list[Any]:
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def _is_tuning(hook: Any) -> bool:
    """Return whether a hook is one of ours, which computes by position what it is part of."""
    return str(getattr(getattr(hook, "__self__", hook), "__module__", "")).startswith("shoestring.tuning.")


@lru_cache(1024)
def _name_of(func: Any) -> str:
    """Return the name of a torch function, of a property its own."""
    name = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name == "__get__" else name
