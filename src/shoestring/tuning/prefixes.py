"""Prefixes as modules: the keys and values themselves, or networks that make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.seeds import derive, torch_seeded, torch_stream
from shoestring.tuning.attention import SLOT, Prefixing, Site, record
from shoestring.tuning.calls import (
    by_name,
    cached_tokens,
    check_read,
    check_room,
    check_shared_positions,
    parameters_of,
    positions_of,
    reader_of,
    room,
    width_of,
)
from shoestring.tuning.preparing import embedding_shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.catalog.prefix import Prefix

_SHARED = "prefix_embedding"


class KeysValues(Prefixing):
    """Keys and values [heads, tokens, size] that are trained themselves."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = nn.Parameter(key), nn.Parameter(value)
        self.virtual_tokens = key.shape[1]

    def before(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return them with an axis for the batch."""
        return self.key[None], self.value[None]


class _Shared(nn.Module):
    """The embedding that the networks of all layers read."""

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(embedding)


class Reparametrised(Prefixing):
    """Keys and values that networks make of an embedding, added to fixed ones.

    Args:
        key: the fixed keys [heads, tokens, size].
        value: the fixed values.
        shared: what holds the embedding [tokens, hidden], the same for all layers.
        begin: whether what the networks add is zero at first.
    """

    def __init__(self, key: Tensor, value: Tensor, shared: _Shared, *, begin: bool) -> None:
        super().__init__()
        self.key: Tensor
        self.value: Tensor
        self.register_buffer("key", key)
        self.register_buffer("value", value)
        hidden, heads, size = shared.weight.shape[1], key.shape[0], key.shape[2]
        self.keys, self.values = (_network(hidden, heads * size, begin=begin).to(key) for _ in range(2))
        self._shared = [shared]  # In a list, or it would be a part of every layer's.
        self.virtual_tokens = key.shape[1]

    def before(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the networks make, with an axis for the batch."""
        return self._made(self.keys, self.key)[None], self._made(self.values, self.value)[None]

    def _made(self, network: nn.Module, fixed: Tensor) -> Tensor:
        made = network(self._shared[0].weight)
        return fixed + made.view(fixed.shape[1], fixed.shape[0], fixed.shape[2]).transpose(0, 1)


class Shift:
    """Moves the positions of what a model reads up by the length of its prefix."""

    def __init__(self, length: int, limit: int | None) -> None:
        self.length, self.limit = length, limit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the arguments of a call with moved positions."""
        given = by_name(module, args, kwargs)
        past = cached_tokens(given.get("past_key_values"))
        check_room(self.length, past + width_of(given), self.limit)
        return (), {**given, "position_ids": positions_of(given, past) + self.length}


def insert_prefixes(settings: Prefix, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
    """Give every self-attention of a model its prefix; return what is trained.

    Raises:
        ModelError: see `Prefix.insert`.
    """
    tokens = drawn_tokens(model, settings.tokens, settings.length, derive(seed, "prefix"))
    check_read(len(tokens), room(model))
    sites = record(model, tokens)
    shift = _shifts(settings, model, sites)
    if shift:
        check_shared_positions(len(tokens), room(model))
    shared = None
    found: list[nn.Parameter] = []
    with torch_seeded(derive(seed, "prefix")):
        if settings.reparametrise:
            shared = _Shared(torch.randn(settings.length, settings.width, device=model.device, dtype=model.dtype))
            model.add_module(_SHARED, shared)
            found.append(shared.weight)
        for site in sites:
            module = _module(settings, site, shared)
            site.module.add_module(SLOT, module)
            found.extend(module.parameters())
    if shift:
        reader_of(model).register_forward_pre_hook(Shift(settings.length, room(model)), with_kwargs=True)
    return found


def count_prefixes(settings: Prefix, model: PreTrainedModel) -> int:
    """Return how many weights prefixes would have; the model is left as it was."""
    usual = str(model.config._attn_implementation)
    try:
        sites = record(model, [0])
        _shifts(settings, model, sites)
    finally:
        model.set_attn_implementation(usual)
    sizes = [2 * site.key.shape[1] * site.key.shape[3] for site in sites]
    if not settings.reparametrise:
        return settings.length * sum(sizes)
    inner = 2 * settings.width * (settings.width + 1)
    return settings.length * settings.width + sum(inner + size * (settings.width + 1) for size in sizes)


def drawn_tokens(model: PreTrainedModel, tokens: Sequence[int] | None, length: int, seed: int) -> list[int]:
    """Return ids of real tokens: those given, or drawn from the vocabulary from the stream (seed, "tokens").

    Raises:
        ModelError: if one is not in the vocabulary.
    """
    size = embedding_shape(model)[0]
    if tokens is None:
        return torch.randint(size, (length,), generator=torch_stream(seed, "tokens")).tolist()
    for token in tokens:
        if token >= size:
            raise ModelError(f"tuning.tokens: {token} is not in the vocabulary of {size} tokens")
    return list(tokens)


@contextmanager
def plain_prefixes(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, prefixes that networks make are the keys and values that they make."""
    made = [
        (module, found)
        for module in model.modules()
        if isinstance(found := getattr(module, SLOT, None), Reparametrised)
    ]
    shared = model._modules.pop(_SHARED, None)
    for module, found in made:
        with torch.no_grad():
            key, value = found.before(module, found.key, found.value)
        setattr(module, SLOT, KeysValues(key[0], value[0]))
    try:
        yield
    finally:
        for module, found in made:
            setattr(module, SLOT, found)
        if shared is not None:
            model.add_module(_SHARED, shared)


def _module(settings: Prefix, site: Site, shared: _Shared | None) -> Prefixing:
    key, value = site.key[0], site.value[0]
    real = settings.init == "tokens"
    if shared is None:
        return KeysValues(key, value) if real else KeysValues(torch.randn_like(key), torch.randn_like(value))
    if not real:
        key, value = torch.zeros_like(key), torch.zeros_like(value)
    return Reparametrised(key, value, shared, begin=real)


def _network(hidden: int, size: int, *, begin: bool) -> nn.Sequential:
    """Return two layers with tanh between them; with `begin` the last one starts at zero."""
    last = nn.Linear(hidden, size)
    if begin:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), last)


def _shifts(settings: Prefix, model: PreTrainedModel, sites: list[Site]) -> bool:
    can = all(site.causal for site in sites) and "position_ids" in parameters_of(reader_of(model))
    if settings.shift and not can:
        raise ModelError(f"tuning.shift=true: {type(model).__name__} is not causal, or has no positions; leave it out")
    return can if settings.shift is None else settings.shift
