"""Rules for the functions that read large weights: perturbed tile by tile, row by row, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.products import Product, product_for
from shoestring.products import linear as linear_layer
from shoestring.zeroth.engines.weights import PointWeights
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.sides import Side
from shoestring.zeroth.tensors import Trained

Lanes = Callable[[Any], list[Any]]
"""Gives the P values that an argument has at P points."""
Rule = Callable[[PointWeights, Lanes, Sequence[Any], dict[str, Any]], Tensor | None]
"""Returns the results at P points [P, ...], or None where the general way has to do."""


def linear(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """F.linear(x, W, b) = x W' + b: tiles of rows of W give slices of the output."""
    x, weight, bias = _bound(args, kwargs, ("input", "weight", "bias"))
    tensor = weights.table.get(id(weight))
    if tensor is None or weight.ndim != 2 or not _writable(tensor, x):
        return None
    side = weights.side(tensor)
    if side is None and weight.numel() <= weights.small:
        return None
    height, width = weight.shape
    xs = lanes(x)
    rows = _stacked(x, xs).reshape(weights.count, -1, width)
    if side is not None:
        out = _beside(weights, tensor, rows, lanes(bias), side)
    elif len(tiles := weights.tiles(tensor)) == 1:
        out = _product(_summand(weights, lanes, bias), rows, weights.make(tensor, tiles[0]).transpose(1, 2))
    else:
        out = rows.new_empty(weights.count, rows.shape[1], height)
        summand, step = _summand(weights, lanes, bias), tiles[0].last
        parts = [None] * len(tiles) if summand is None else summand.split(step, 2)
        for tile, part, columns in zip(tiles, parts, out.split(step, 2), strict=True):
            _product(part, rows, weights.make(tensor, tile).transpose(1, 2), columns)
    return out.view(weights.count, *xs[0].shape[:-1], height)


def addmm(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """torch.addmm(b, x, W) = b + x W, as in GPT-2: tiles of rows of W give summands.

    In half precision sums of summands would be rounded in between: there W is made whole.
    """
    bias, x, weight = _bound(args, kwargs, ("input", "mat1", "mat2"))
    tensor = weights.table.get(id(weight))
    if tensor is None or len(args) > 3 or kwargs.keys() - {"input", "mat1", "mat2"} or not _writable(tensor, x):
        return None
    side = weights.side(tensor, turned=True)
    if side is None and (weight.numel() <= weights.small or weight.dtype.itemsize < 4):
        return None
    rows = _stacked(x, lanes(x)).reshape(weights.count, -1, len(weight))
    if side is not None:
        return _beside(weights, tensor, rows, lanes(bias), side, turned=True)
    out = _summand(weights, lanes, bias)
    for tile in weights.tiles(tensor):
        out = _product(out, rows[:, :, tile.first : tile.last], weights.make(tensor, tile))
    return out


def embedding(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """F.embedding(ids, W): only the rows that are read are made, each once."""
    ids, weight = _bound(args, kwargs, ("input", "weight"))
    if kwargs.get("max_norm") is not None or (len(args) > 3 and args[3] is not None):
        return None
    return _rows(weights, lanes, weight, ids)


def plain_embedding(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """torch.embedding(W, ids), which F.embedding is made of."""
    return _rows(weights, lanes, *_bound(args, kwargs, ("weight", "indices")))


def take(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """W[ids]: only the rows that are read are made."""
    return _rows(weights, lanes, args[0], args[1])


def index_select(weights: PointWeights, lanes: Lanes, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """torch.index_select(W, 0, ids): only the rows that are read are made."""
    weight, axis, ids = _bound(args, kwargs, ("input", "dim", "index"))
    return _rows(weights, lanes, weight, ids) if axis == 0 else None


RULES: dict[Any, Rule] = {
    functional.linear: linear,
    torch.addmm: addmm,
    Tensor.addmm: addmm,
    functional.embedding: embedding,
    torch.embedding: plain_embedding,
    Tensor.__getitem__: take,
    torch.index_select: index_select,
    Tensor.index_select: index_select,
}
"""By the function that is called."""


def _rows(weights: PointWeights, lanes: Lanes, weight: Any, ids: Any) -> Tensor | None:
    tensor = weights.table.get(id(weight))
    if tensor is None or weight.ndim != 2 or weight.numel() <= weights.small:
        return None
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32) or _differentiable():
        return None
    values = lanes(ids)
    shared = all(value is values[0] for value in values)
    flat = values[0].reshape(-1) if shared else torch.cat([value.reshape(-1) for value in values])
    index, places = torch.unique(flat.to(torch.int64), return_inverse=True)
    if len(index) and not 0 <= int(index[0]) <= int(index[-1]) < len(weight):
        return None  # Counted from the end, or out of range: torch knows what to do.
    rows = weights.rows(tensor, index)
    places = places.expand(weights.count, -1) if shared else places.view(weights.count, -1)
    return torch.stack([rows[lane][place] for lane, place in enumerate(places)]).view(
        weights.count, *values[0].shape, weight.shape[1]
    )


def _writable(tensor: Trained, x: Any) -> bool:
    """Return whether a product can be written into memory of ours: of one dtype, and not to be differentiated."""
    if not isinstance(x, Tensor) or x.dtype != tensor.param.dtype or _differentiable():
        return False
    return not torch.is_autocast_enabled(x.device.type)


def _differentiable() -> bool:
    """Return whether gradients are wanted, which results written into memory cannot have."""
    return torch.is_grad_enabled()


def _product(summand: Tensor | None, x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Return b + x W at P points: b [P, 1 or N, m] or None, x [P, N, n], W [P, n, m]."""
    quick = product_for(x[0], weight[0].t())
    if quick is not None and (summand is None or summand.dtype == x.dtype):
        out = x.new_empty(*x.shape[:2], weight.shape[2]) if out is None else out
        for point, one in enumerate(out):
            _add_product(quick, one, None if summand is None else summand[point], x[point], weight[point].t())
        return out
    if summand is None:
        return torch.bmm(x, weight, out=out)
    return torch.baddbmm(summand, x, weight, out=out)


def _add_product(quick: Product, out: Tensor, summand: Tensor | None, x: Tensor, weight: Tensor) -> None:
    """Write b + x W' to `out` [N, m]: b [1 or N, m] or None, x [N, n], W [m, n]."""
    if summand is None or len(summand) == 1:
        out.copy_(quick(x, weight, None if summand is None else summand.expand(1, len(weight))[0]))
    else:
        torch.add(summand, quick(x, weight, None), out=out)


def _summand(weights: PointWeights, lanes: Lanes, bias: Tensor | None) -> Tensor | None:
    """Return what is added to products [N, m] at P points [P, 1 or N, 1 or m]."""
    if bias is None:
        return None
    tensor = weights.table.get(id(bias))
    stacked = torch.stack(lanes(bias)) if tensor is None else weights.stacked(tensor)
    return stacked.view(weights.count, *[1] * (3 - stacked.ndim), *stacked.shape[1:])


def _stacked(x: Tensor, xs: Sequence[Tensor]) -> Tensor:
    """Return what an argument is at all points, one after the other on the first axis."""
    if len(xs) == 1:
        return xs[0]
    return x if len(x) == len(xs) * len(xs[0]) else torch.cat(list(xs))


def _beside(
    weights: PointWeights,
    tensor: Trained,
    x: Tensor,
    biases: Sequence[Tensor | None],
    side: Side,
    *,
    turned: bool = False,
) -> Tensor:
    """Return b + x W' at P points [P, N, m] of W [m, n], where `side` is what it differs by; `turned`: W is [n, m].

    The large product, of `x` [P, N, n], is one for all points.
    """
    x = x.flatten(0, 1)
    with weights.reading():
        weight = weights.pristine(tensor)
        out = linear_layer(x, weight.t() if turned else weight)
        out = out.view(weights.count, -1, out.shape[1])
        noise_for(x).add_side(out, x, biases, side)
    return out


def _bound(args: Sequence[Any], kwargs: dict[str, Any], names: Sequence[str]) -> list[Any]:
    return [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names)]
