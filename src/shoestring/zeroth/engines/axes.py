"""Whether the first axis of a result still holds the rows of a repeated batch, point after point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Where a function takes the axis it works along, after the tensor, and its default; names as torch spells them.
_ALONG: dict[str, tuple[int, Any]] = {
    **dict.fromkeys(
        [
            "sum", "mean", "prod", "std", "var", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all",
            "logsumexp", "median", "nansum", "nanmean", "count_nonzero", "std_mean", "var_mean", "aminmax", "mode",
            "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "softmax", "log_softmax", "flip", "select",
            "unflatten", "gather", "index_add", "scatter", "scatter_add", "index_fill", "index_copy", "narrow", "glu",
            "softmin", "squeeze", "nanmedian", "argsort", "sort",
        ],
        (1, None),
    ),
    **dict.fromkeys(["unbind", "cat", "concat", "concatenate", "stack"], (1, 0)),
    **dict.fromkeys(["split", "chunk", "tensor_split", "split_with_sizes"], (2, 0)),
    **dict.fromkeys(["roll", "topk", "kthvalue", "quantile", "norm", "vector_norm", "normalize", "diff",
                     "take_along_dim"], (2, None)),
}  # fmt: skip
_NEVER = frozenset(
    ["nonzero", "masked_select", "unique", "unique_consecutive", "take", "bincount", "tensordot", "kron", "outer",
     "ger", "__iter__", "tile", "meshgrid", "cartesian_prod", "combinations", "hstack", "vstack", "dstack", "t_",
     "argwhere", "rot90", "block_diag", "cdist", "multi_head_attention_forward"]
)  # fmt: skip
_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "and", "or", "xor", "mod", "pow")
_WRITING = frozenset([*(f"__i{name}__" for name in _OPERATORS), "__setitem__"])


@lru_cache(1024)
def name_of(func: Any) -> str:
    """Return the name of a torch function, of a property its own."""
    name = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name == "__get__" else name


@lru_cache(1024)
def writes(func: Any) -> bool:
    """Return whether a function changes its first operand."""
    name = getattr(func, "__name__", "")
    return name in _WRITING or (name.endswith("_") and not name.endswith("__"))


def keeps(func: Any, args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool], rows: int) -> bool:
    """Return whether a call keeps rows of a repeated batch in place on the first axis, as far as axes tell.

    Functions that are not named here work on elements or on later axes; that the first axis of the result is a multiple
    of the rows is checked beside, and losses at the first step against those of one point at a time.

    Args:
        func: the torch function.
        args: its arguments.
        kwargs: its keyword arguments.
        split: tells tensors whose first axis is of rows.
        rows: number of rows, of all points.
    """
    name = name_of(func)
    try:
        if name in ("__getitem__", "__setitem__"):
            return _index_keeps(args[0], args[1], split, rows)
        if name in _SPECIAL:
            return _SPECIAL[name](args, kwargs, split)
        if name in _ALONG:
            return _along_keeps(name, args, kwargs)
    except (IndexError, KeyError, AttributeError, TypeError, RuntimeError):
        return False  # Called in a way that is not foreseen here, or inside vmap.
    return name not in _NEVER


def _along_keeps(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    place, axis = _ALONG[name]
    named = next((kwargs[key] for key in ("dim", "axis", "dims") if key in kwargs), None)
    if named is not None:
        axis = named
    elif len(args) > place and not isinstance(args[place], (Tensor, bool)):
        axis = args[place:] if name == "flip" and isinstance(args[place], int) else args[place]
    # Among tensors that are joined there may be an empty one of fewer axes.
    joined = args[0] if isinstance(args[0], (list, tuple)) else args[:1]
    ndim = max(part.ndim for part in joined) + (name == "stack")
    if axis is None:
        # All axes, which the shape of the result tells, or the last one.
        return ndim > 1 or name == "squeeze"
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    return all(isinstance(one, int) and one % max(ndim, 1) != 0 for one in axes)


def _permute(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    axes = kwargs.get("dims", args[1:])
    axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (list, tuple)) else axes
    return bool(axes) and axes[0] % args[0].ndim == 0


def _swapped(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    axes = [*args[1:], *kwargs.values()]
    return bool(axes) and all(axis % args[0].ndim != 0 for axis in axes)


def _turned(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    return args[0].ndim < 2


def _turned_inside(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    return args[0].ndim > 2


def _matmul(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    one, other = args[0], args[1]
    if split(other) and other.ndim < 3:
        return False
    return not (split(one) and one.ndim == 1)


def _addmm(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    return not any(split(value) for value in (*args[2:], kwargs.get("mat2")))


def _mm(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    return not any(split(value) for value in (*args[1:], kwargs.get("mat2")))


def _expand(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    sizes = args[1:] if len(args) > 2 or isinstance(args[1], int) else args[1]
    return not isinstance(sizes, Tensor) and len(sizes) == args[0].ndim


def _repeat(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    sizes = args[1:] if isinstance(args[1], int) else args[1]
    return len(sizes) == args[0].ndim and sizes[0] == 1


def _repeat_interleave(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    times = args[1] if len(args) > 1 else kwargs.get("repeats")
    axis = args[2] if len(args) > 2 else kwargs.get("dim")
    return isinstance(times, int) and (axis is not None or args[0].ndim == 1)


def _index_select(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    axis = args[1] if len(args) > 1 else kwargs["dim"]
    return split(args[0]) and axis % args[0].ndim != 0


def _unsqueeze(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    axis = args[1] if len(args) > 1 else kwargs["dim"]
    return axis % (args[0].ndim + 1) != 0


def _einsum(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    if not isinstance(args[0], str) or "->" not in args[0]:
        return False
    inputs, result = args[0].replace(" ", "").split("->")
    operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    pairs = zip(inputs.split(","), operands, strict=False)
    return all(axes[:1] == result[:1] and axes[:1].isalpha() for axes, value in pairs if split(value))


def _where(args: Sequence[Any], kwargs: dict[str, Any], split: Callable[[Any], bool]) -> bool:
    return len(args) > 1 or bool(kwargs)


_SPECIAL: dict[str, Callable[[Sequence[Any], dict[str, Any], Callable[[Any], bool]], bool]] = {
    "permute": _permute,
    **dict.fromkeys(["transpose", "swapaxes", "swapdims", "transpose_", "movedim", "moveaxis"], _swapped),
    **dict.fromkeys(["t", "T", "H", "numpy_T", "adjoint"], _turned),
    **dict.fromkeys(["mT", "mH"], _turned_inside),
    **dict.fromkeys(["matmul", "__matmul__"], _matmul),
    "__rmatmul__": lambda args, kwargs, split: _matmul((args[1], args[0]), kwargs, split),
    "addmm": _addmm,
    "linear": _mm,
    **dict.fromkeys(["mm", "mv", "dot", "inner", "vdot"], _mm),
    **dict.fromkeys(["expand", "broadcast_to"], _expand),
    "repeat": _repeat,
    "repeat_interleave": _repeat_interleave,
    "index_select": _index_select,
    "unsqueeze": _unsqueeze,
    "einsum": _einsum,
    "where": _where,
}


def _index_keeps(x: Tensor, index: Any, split: Callable[[Any], bool], rows: int) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    masks = any(part.dtype in (torch.bool, torch.uint8) for part in tensors)
    if masks or any(isinstance(part, list) for part in parts):
        return False
    first = parts[0] if parts else Ellipsis
    deep = max((part.ndim for part in tensors), default=0)
    if isinstance(first, Tensor):
        # A table that is looked up has the rows of the index; of split rows each must be its own.
        return first.ndim == deep and (_own_rows(x, first, rows) if split(x) else split(first))
    if not split(x):
        return False
    if isinstance(first, slice):
        return first.start in (None, 0) and first.step in (None, 1) and (first.stop is None or first.stop >= x.shape[0])
    return first is Ellipsis and sum(part is not None for part in parts[1:]) < x.ndim


def _own_rows(x: Tensor, index: Tensor, rows: int) -> bool:
    """Return whether row n of an index points at rows that belong to row n of the batch."""
    if index.ndim == 0 or index.shape[0] % rows or x.shape[0] % rows:
        return False
    batch = torch.arange(rows, device=index.device).repeat_interleave(index.shape[0] // rows)
    found = torch.div(index.reshape(index.shape[0], -1), x.shape[0] // rows, rounding_mode="floor")
    return bool((found == batch[:, None]).all())
