"""Arguments of a model's forward by their names, and the places in them that virtual tokens change."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.models.loading import longest_input
from shoestring.models.virtual import virtual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POSITIONS = ("wpe", "embed_positions", "position_embeddings")
# With room for fewer tokens no prompt can be written, so that a lower prompt.max_tokens is no advice.
_FEWEST = 8


def parameters_of(module: nn.Module) -> list[str]:
    """Return the names of the parameters of a module's forward."""
    return list(inspect.signature(module.forward).parameters)


def reader_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of a model that reads token ids: an encoder, a decoder, or all but the head.

    OPT's language model calls its decoder itself, past the base model around it.
    """
    base: Any = model.base_model
    if model.config.is_encoder_decoder:
        return base.get_encoder()
    inner = getattr(base, "decoder", None)
    return inner if inner is not None and "input_ids" in parameters_of(inner) else base


def by_name(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call of a module's forward by name."""
    return dict(zip(parameters_of(module), args, strict=False)) | kwargs


def cached_tokens(cache: Any) -> int:
    """Return how many tokens a cache of keys and values holds."""
    return int(cache.get_seq_length()) if cache is not None else 0


def width_of(given: dict[str, Any]) -> int:
    """Return the number of new tokens of a call."""
    for name in ("input_ids", "inputs_embeds"):
        if given.get(name) is not None:
            return int(given[name].shape[1])
    raise ModelError("a model with virtual tokens is called with input_ids or inputs_embeds")


def positions_of(given: dict[str, Any], past: int) -> Tensor:
    """Return the positions [N or 1, T] of the new tokens of a call: those given, else counted, padding left out."""
    if given.get("position_ids") is not None:
        return given["position_ids"]
    width, mask = width_of(given), given.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return (mask.long().cumsum(1) - 1).clamp(min=0)[:, -width:]
    inputs = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]
    return torch.arange(past, past + width, device=inputs.device)[None]


def refuse_virtual(model: PreTrainedModel, kind: str) -> None:
    """Refuse a model that reads virtual tokens, before it is given others.

    Raises:
        ModelError: if so.
    """
    if (count := virtual_tokens(model)) > 0:
        raise ModelError(f'tuning.kind="{kind}": this {type(model).__name__} already reads {count} virtual tokens')


def room(model: PreTrainedModel) -> int | None:
    """Return how many positions a model has a learned embedding for; None where positions are computed."""
    learned = any(
        isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITIONS
        for name, module in model.named_modules()
    )
    return longest_input(model.config) if learned else None


def check_room(virtual: int, tokens: int, limit: int | None) -> None:
    """Refuse an input for which, behind virtual tokens, there are no positions.

    Raises:
        ModelError: if `virtual + tokens` are more than `limit`.
    """
    if limit is None or virtual + tokens <= limit:
        return
    if limit - virtual >= _FEWEST:
        advice = f"prompt.max_tokens={limit - virtual}, or a smaller tuning.length"
    else:
        advice = f"tuning.length={limit - tokens} or less" if tokens < limit else "a smaller tuning.length"
    raise ModelError(
        f"{virtual} virtual tokens and {tokens} of input are more than the {limit} positions of the model; use {advice}"
    )


def check_shared_positions(virtual: int, limit: int | None) -> None:
    """Refuse virtual tokens that take all positions, so that none are left to any input.

    Raises:
        ModelError: if so.
    """
    if limit is not None and virtual >= limit:
        raise ModelError(
            f"tuning.length={virtual}: virtual tokens and input share the {limit} positions of the model; "
            "use a smaller tuning.length"
        )


def check_read(virtual: int, limit: int | None) -> None:
    """Refuse a prefix of more tokens than a model can read, for its keys and values are made by reading them.

    Raises:
        ModelError: if so.
    """
    if limit is not None and virtual > limit:
        raise ModelError(
            f"tuning.length={virtual}: the model reads that many tokens to make the prefix, and has {limit} positions; "
            f"use tuning.length={limit} or less"
        )
