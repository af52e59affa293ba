"""Layers: the groups of tensors that share a scale or are perturbed together, and their norms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from shoestring.zeroth.base import Evaluate, ZerothOrder
from shoestring.zeroth.closures import Closure
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.masks import gradients
from shoestring.zeroth.points import both_ends
from shoestring.zeroth.tensors import Trained

Norms = Literal["parameters", "gradients", "zeroth-order"]
NORMS: tuple[Norms, ...] = ("parameters", "gradients", "zeroth-order")

_EMBEDDINGS = {"wte", "wpe", "shared"}
_HEADS = {"classifier", "score", "cls", "qa_outputs"}


def layer_of(name: str) -> str:
    """Return the layer of a tensor's name: up to the first number, or "embeddings", "head" or "rest".

    >>> layer_of("roberta.encoder.layer.11.attention.self.query.weight")
    'roberta.encoder.layer.11'
    >>> layer_of("model.decoder.embed_tokens.weight"), layer_of("lm_head.bias"), layer_of("model.norm.weight")
    ('embeddings', 'head', 'rest')
    """
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    if number is not None:
        return ".".join(parts[: number + 1])
    if name.startswith("#"):
        return name  # A tensor that was given without a name is a layer of its own.
    if any("embed" in part or part in _EMBEDDINGS for part in parts):
        return "embeddings"
    return "head" if any("head" in part or part in _HEADS for part in parts) else "rest"


def by_layer(tensors: Iterable[Trained]) -> dict[str, list[Trained]]:
    """Return the tensors of each layer, in the order in which layers are met."""
    found: dict[str, list[Trained]] = {}
    for tensor in tensors:
        found.setdefault(layer_of(tensor.name), []).append(tensor)
    return found


def confined(optimizer: ZerothOrder, tensors: Iterable[Trained], factor: float = 1.0) -> Scaled:
    """Return the optimizer's directions, times `factor`, in some tensors only."""
    return Scaled(optimizer.directions, {tensor.name: factor for tensor in tensors})


def layer_norms(optimizer: ZerothOrder, evaluate: Evaluate, norms: Norms, eps: float) -> dict[str, float]:
    """Return a norm c of each layer; 0 is replaced by 1.

    "parameters": |theta_l|. "gradients": |dL / d theta_l|, by one backward pass, which takes the memory of gradients
    once. "zeroth-order": |L(theta + eps z_l) - L(theta - eps z_l)| / (2 eps) for a direction z_l in the layer alone,
    two forward passes a layer; a draw whose mean square is the gradient's squared norm.

    Source: Malladi et al. 2023, appendix B (arXiv 2305.17333).
    """
    layers = by_layer(optimizer.engine.tensors)
    optimizer.engine.finalize()
    if norms == "parameters":
        found = [_norm(sum(_square(tensor.param) for tensor in tensors)) for tensors in layers.values()]
    elif norms == "gradients":
        optimizer.last_passes += 1
        found = optimizer.measure(len(layers), lambda closure: _gradient_norms(closure, list(layers.values())))
    else:
        found = []
        for number, tensors in enumerate(layers.values()):
            # A path of two numbers, so that it is no direction of the step itself.
            points = both_ends(confined(optimizer, tensors), optimizer.direction_seed(0, number), eps)
            plus, minus = evaluate(points)
            found.append(abs(plus - minus) / (2 * eps))
    return {layer: norm or 1.0 for layer, norm in zip(layers, found, strict=True)}


def _gradient_norms(closure: Closure, layers: Sequence[Sequence[Trained]]) -> list[float]:
    params = [tensor.param for tensors in layers for tensor in tensors]
    squares = iter([_square(grad) for grad in gradients(params, closure)])
    return [_norm(sum(next(squares) for _ in tensors)) for tensors in layers]


def _square(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().sum())


def _norm(square: float) -> float:
    return math.sqrt(square)
