"""Masks: which weights of a tensor are trained, where not all are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Protocol

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.seeds import torch_stream
from shoestring.zeroth.closures import Closure
from shoestring.zeroth.tensors import Trained

_BLOCK = 1 << 15
_FEW = 32


class Mask(Protocol):
    """Some elements of a tensor that is seen as one axis, numbered in order."""

    @property
    def count(self) -> int:
        """How many are chosen."""
        ...

    def inside(self, start: int, stop: int) -> tuple[Tensor, int]:
        """Return the places of those in start ... stop, counted from `start`, and how many stand before."""
        ...


class Places:
    """A mask of few elements: their places, sorted, int64 [K]; eight bytes for each."""

    def __init__(self, places: Tensor) -> None:
        self.places = places

    @property
    def count(self) -> int:
        """How many are chosen."""
        return len(self.places)

    def inside(self, start: int, stop: int) -> tuple[Tensor, int]:
        """Return the places of those in start ... stop, counted from `start`, and how many stand before."""
        ends = torch.tensor([start, stop], device=self.places.device)
        first, last = torch.searchsorted(self.places, ends).tolist()
        return self.places[first:last] - start, first


class Bits:
    """A mask of many elements: one bit for every element of the tensor, packed by `pack`."""

    def __init__(self, packed: Tensor) -> None:
        self.packed = packed
        counts = [int(_unpack(block).sum()) for block in packed.split(_BLOCK // 8)]
        self._before = [0]
        for count in counts:
            self._before.append(self._before[-1] + count)

    @property
    def count(self) -> int:
        """How many are chosen."""
        return self._before[-1]

    def inside(self, start: int, stop: int) -> tuple[Tensor, int]:
        """Return the places of those in start ... stop, counted from `start`, and how many stand before."""
        block = start // _BLOCK
        first = block * _BLOCK
        bits = _unpack(self.packed[first // 8 : (stop + 7) // 8])
        before = self._before[block] + int(bits[: start - first].sum())
        return bits[start - first : stop - first].nonzero().view(-1), before


def pack(mask: Tensor) -> Tensor:
    """Return a mask [n], bool, in the form that is saved: packed bits, uint8, or few places, int64.

    >>> pack(torch.tensor([True, False, True]))
    tensor([5], dtype=torch.uint8)
    """
    mask = mask.reshape(-1)
    if int(mask.sum()) * 8 * _FEW < len(mask) * 4:
        return mask.nonzero().view(-1)
    return pack_bits(mask)


def pack_bits(mask: Tensor) -> Tensor:
    """Return a mask [n], bool, as packed bits, uint8 [ceil(n / 8)]."""
    whole = torch.zeros((len(mask) + 7) // 8 * 8, dtype=torch.uint8, device=mask.device)
    whole[: len(mask)] = mask
    return (whole.view(-1, 8) << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)


def unpacked(saved: Tensor, device: torch.device) -> Mask:
    """Return the mask that `pack` has written, on a device."""
    return Bits(saved.to(device)) if saved.dtype == torch.uint8 else Places(saved.to(device))


def largest(values: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Return masks of the given fraction of all elements, those of the largest values over all tensors together.

    `values` may be squared gradients (`squared_gradients`), as in SensZOQ, or magnitudes of weights. At least one
    element is chosen; of equal values the first are.

    Source: Guo et al. 2024, Zeroth-Order Fine-Tuning of LLMs with Extreme Sparsity (arXiv 2406.02913).
    """
    _check_fraction(fraction)
    count = max(1, round(fraction * sum(value.numel() for value in values.values())))
    tops = [value.detach().reshape(-1).topk(min(count, value.numel())).values.float() for value in values.values()]
    threshold = torch.cat(tops).topk(count).values[-1]
    found = {name: value.detach().float() > threshold for name, value in values.items()}
    left = count - sum(int(mask.sum()) for mask in found.values())
    for name, value in values.items():
        equal = (value.detach().float() == threshold).view(-1).nonzero().view(-1)[:left]
        found[name].view(-1)[equal] = True
        left -= len(equal)
    return found


def at_random(params: Mapping[str, Tensor], fraction: float, seed: int) -> dict[str, Tensor]:
    """Return masks in which each element is chosen with probability `fraction`, from (seed, "mask", name)."""
    _check_fraction(fraction)

    def drawn(name: str, param: Tensor) -> Tensor:
        stream = torch_stream(seed, "mask", name)
        return (torch.rand(param.shape, generator=stream, dtype=torch.float32) < fraction).to(param.device)

    return {name: drawn(name, param) for name, param in params.items()}


def squared_gradients(params: Mapping[str, Tensor], closures: Iterable[Closure]) -> dict[str, Tensor]:
    """Return the sum over closures, one a batch, of the squared gradient of its loss.

    The diagonal of the empirical Fisher information where every batch is one example. Costs a backward pass for each
    and two copies of the weights; `.grad` is not touched.

    Raises:
        OptimizerError: if the loss does not depend on the parameters by operations that have gradients.
    """
    found = {name: torch.zeros_like(param, dtype=torch.float32) for name, param in params.items()}
    for closure in closures:
        for name, grad in zip(params, gradients(list(params.values()), closure), strict=True):
            found[name] += grad.float().square()
    return found


def gradients(params: list[Tensor], closure: Closure) -> list[Tensor]:
    """Return the gradient of the closure's loss in every parameter, by backpropagation; zeros where it has no part.

    Raises:
        OptimizerError: if the loss does not depend on them by operations that have gradients.
    """
    with torch.enable_grad():
        loss = closure()
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise OptimizerError(
            "gradients are asked for, but the closure's loss has none: it is a number, detached, or made by operations "
            "without a gradient, such as accuracy; norms or masks that need no gradient work there"
        )
    found = torch.autograd.grad(loss, params, allow_unused=True)
    return [torch.zeros_like(param) if grad is None else grad for param, grad in zip(params, found, strict=True)]


def checked(masks: Mapping[str, Tensor], tensors: Iterable[Trained]) -> dict[str, Tensor]:
    """Return masks in the form that is saved, of every tensor that is trained; those without a mask get an empty one.

    Raises:
        OptimizerError: if a mask is not boolean, fits no tensor, or nothing is chosen.
    """
    left, found = dict(masks), {}
    for tensor in tensors:
        mask = left.pop(tensor.name, None)
        if mask is None:
            mask = torch.zeros(tensor.param.shape, dtype=torch.bool)
        if mask.dtype != torch.bool or mask.shape != tensor.param.shape:
            raise OptimizerError(
                f"the mask of {tensor.name} is {mask.dtype} of shape {list(mask.shape)}; it must be boolean of the "
                f"weight's shape {list(tensor.param.shape)}"
            )
        found[tensor.name] = pack(mask)
    if left:
        raise OptimizerError(
            f"there is a mask for {next(iter(left))}, but no such tensor is trained; trained are: {', '.join(found)}"
        )
    if not any(saved.any() or (saved.dtype == torch.int64 and len(saved)) for saved in found.values()):
        raise OptimizerError("the masks choose no weight at all")
    return found


def _unpack(packed: Tensor) -> Tensor:
    return ((packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1).bool().view(-1)


def _check_fraction(fraction: float) -> None:
    if not isinstance(fraction, (Real, Tensor)) or not 0 < fraction <= 1:
        raise OptimizerError(f"fraction={fraction!r} of the weights; it must be a number above 0 and at most 1")
