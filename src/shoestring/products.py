"""Linear layers in float32 by oneDNN, on processors for which MKL leaves the widest instructions aside.

Torch multiplies float32 matrices on a CPU by MKL, which uses AVX-512 on Intel's processors only. On others that have
it, oneDNN, which torch comes with too, takes half the time. Sums are in float32 as MKL's are, in another order.

    torch.backends.mkldnn.enabled = False  # torch's own products, as everywhere else
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

_PROCESSOR = Path("/proc/cpuinfo")
# Of fewer multiplications, or with a smaller or narrower matrix, a product gains little or loses.
_LEAST, _SMALLEST, _NARROWEST = 1 << 21, 1 << 16, 32
Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W' + b [..., m] of x [..., n], W [m, n] and b [m], as `torch.nn.functional.linear` does."""
    product = product_for(input, weight, bias)
    return functional.linear(input, weight, bias) if product is None else product(input, weight, bias)


def addmm(*args: Any, **kwargs: Any) -> Tensor:
    """Return b + x W [N, m] of b [m], x [N, n] and W [n, m], as `torch.addmm` does, and GPT-2."""
    if len(args) == 3 and not kwargs and all(isinstance(arg, Tensor) and arg.ndim for arg in args):
        bias, x, weight = args
        product = product_for(x, weight.mT, bias) if x.ndim == weight.ndim == 2 else None
        if product is not None:
            return product(x, weight.mT, bias)
    return torch.addmm(*args, **kwargs)


def product_for(x: Any, weight: Any, bias: Any = None) -> Product | None:
    """Return what multiplies these faster than torch's `linear`; None where that is as fast, or can do more."""
    if not isinstance(x, Tensor) or not isinstance(weight, Tensor) or weight.dtype != torch.float32:
        return None
    if not _is_large(weight) or x.numel() * len(weight) < _LEAST:
        return None
    # What does not fit together is torch's too: it says what is wrong.
    if x.shape[-1:] != weight.shape[1:] or not all(map(_is_plain, (x, weight))):
        return None
    if bias is not None and not (isinstance(bias, Tensor) and _is_plain(bias) and bias.shape == weight.shape[:1]):
        return None
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return None
    return onednn() if torch.backends.mkldnn.enabled and not _transformed() else None


class QuickProducts(TorchFunctionMode):
    """Active around forward passes without gradients: their linear layers are multiplied by the faster library."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call `func`, or what is faster."""
        return quick(func)(*args, **(kwargs or {}))


_QUICK = {functional.linear: linear, torch.addmm: addmm}


def quick(func: Any) -> Any:
    """Return what does the same as a torch function, or faster."""
    return _QUICK.get(func, func)


def quick_products(weights: Iterable[Tensor] | None = None) -> AbstractContextManager[Any]:
    """Return a context in which linear layers are fast; one that does nothing where torch's are as fast.

    Args:
        weights: of the model, of which none may be large enough; looking at every function takes time, too.
    """
    if onednn() is None or not (weights is None or any(_is_large(weight) and _is_plain(weight) for weight in weights)):
        return nullcontext()
    return QuickProducts()


def library() -> str:
    """Return what multiplies large float32 matrices on this processor, for the record."""
    return "oneDNN" if onednn() is not None and torch.backends.mkldnn.enabled else "torch"


@cache
def onednn() -> Product | None:
    """Return oneDNN's product of float32, on a processor for which it is the faster one; None on others."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return None
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512") or maker() in ("", "GenuineIntel"):
        return None
    return _onednn()


def maker() -> str:
    """Return who made the processor, as it says itself, such as `AuthenticAMD`; empty where that is not known."""
    if not _PROCESSOR.exists():
        return platform.processor().rpartition(" ")[2]
    for line in _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "vendor_id":
            return value.strip()
    return ""


def _onednn() -> Product | None:
    """Return the operator that torch's compiler calls for a linear layer; None in a torch that has no such one."""
    try:
        operator = torch.ops.mkldnn._linear_pointwise.default
        _transformed()
    except AttributeError:
        return None

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # It takes a bias for contiguous without a look, and not every other stride.
        dense = weight if weight.is_contiguous() or weight.t().is_contiguous() else weight.contiguous()
        return operator(x.contiguous(), dense, None if bias is None else bias.contiguous(), "none", [], "")

    return product


def _is_large(weight: Tensor) -> bool:
    """Return whether products with a matrix can gain anything."""
    return weight.ndim == 2 and weight.numel() >= _SMALLEST and min(weight.shape) >= _NARROWEST


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is what it seems: dense float32 in the main memory, of no class of its own."""
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
    )


def _transformed() -> bool:
    """Return whether torch differentiates, maps or compiles what it is asked to compute, which needs its own ops."""
    levels = torch.autograd.forward_ad._current_level
    mapped = torch._C._functorch.peek_interpreter_stack()  # pyright: ignore[reportAttributeAccessIssue]
    return levels >= 0 or mapped is not None or torch.compiler.is_compiling()
