"""Prefixes at the joint where every attention of transformers passes: keys and values before those of the input.

Attention functions are looked up by the name that a model's config gives. Two names are added here, which put a
module's own prefix before the keys and values they are called with and go on to the usual function. What a model does
around its attention, caches included, never hears of it; so generation, gradient checkpointing and masks of any form
are as without a prefix.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from shoestring.errors import ModelError
from shoestring.models.quiet import quiet
from shoestring.tuning.architectures import CROSS_ATTENTION
from shoestring.tuning.calls import refuse_virtual

SLOT = "prefix"
"""Name of the submodule of an attention module that holds its prefix."""
# The usual function, and the name of the one that puts a prefix before it.
_NAMES = {"sdpa": "prefixed_fused", "eager": "prefixed_eager"}


class Prefixing(nn.Module):
    """What an attention module asks for its prefix.

    Attributes:
        virtual_tokens: how many tokens the prefix is of.
    """

    virtual_tokens: int = 0

    def before(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return keys and values [1, heads, tokens, size] to stand before those of a call, or None."""
        raise NotImplementedError


@dataclass(frozen=True)
class Site:
    """An attention over its own input, as one forward pass showed it.

    Attributes:
        name: of the module.
        module: the module.
        key: keys of the pass [1, heads, tokens, size], as attention received them: after rotation by positions.
        value: values.
        causal: whether tokens see only those before them.
    """

    name: str
    module: nn.Module
    key: Tensor
    value: Tensor
    causal: bool


class _Recorder(Prefixing):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, ...]] = []

    def before(self, module: nn.Module, key: Tensor, value: Tensor) -> None:
        self.seen.append(tuple(one.detach().clone(memory_format=torch.contiguous_format) for one in (key, value)))


def record(model: PreTrainedModel, tokens: Sequence[int]) -> list[Site]:
    """Return the keys and values that each self-attention of a frozen model makes of tokens.

    The model is left as it was, but for its attention function: the one that reads prefixes. Its head is not asked:
    those of BART and T5 refuse tokens that do not end a text.

    Raises:
        ModelError: if the model's attention cannot be reached.
    """
    refuse_virtual(model, "prefix")
    route(model)
    recorders = {
        name: (module, _Recorder())
        for name, module in model.named_modules()
        if "attention" in type(module).__name__.lower()
        and not CROSS_ATTENTION.search(name)
        and not hasattr(module, SLOT)
    }
    ids = torch.tensor([list(tokens)], device=model.device)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    for module, recorder in recorders.values():
        module.add_module(SLOT, recorder)
    reads = model.base_model
    try:
        with torch.no_grad():
            reads(**inputs, use_cache=False) if hasattr(model.config, "use_cache") else reads(**inputs)
    finally:
        for module, _ in recorders.values():
            delattr(module, SLOT)
    sites = [
        Site(name, module, *recorder.seen[0], causal=bool(getattr(module, "is_causal", False)))
        for name, (module, recorder) in recorders.items()
        if recorder.seen
    ]
    if not sites:
        raise ModelError(
            f'tuning.kind="prefix": the attention of {type(model).__name__} is its own and takes no prefix; '
            'try tuning.kind="prompt-tuning" or "lora"'
        )
    return sites


def route(model: PreTrainedModel) -> None:
    """Make a model's attention read prefixes.

    Raises:
        ModelError: if its attention is neither eager nor sdpa.
    """
    usual = str(model.config._attn_implementation)
    if usual in _NAMES.values():
        return
    if usual not in _NAMES:
        raise ModelError(f'tuning.kind="prefix" with attention {usual!r}: use model.attention="sdpa" or "eager"')
    _register()
    with quiet():
        model.set_attn_implementation(_NAMES[usual])


def _register() -> None:
    """Enter both functions, and the masks of the usual ones, under their names."""
    if _NAMES["eager"] in ALL_ATTENTION_FUNCTIONS:
        return
    usual: dict[str, Callable[..., Any]] = {"sdpa": ALL_ATTENTION_FUNCTIONS["sdpa"], "eager": _eager}
    for name, function in usual.items():
        AttentionInterface.register(_NAMES[name], _prefixed(function))
        AttentionMaskInterface.register(_NAMES[name], ALL_MASK_ATTENTION_FUNCTIONS[name])


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call the eager attention of the architecture that a module is of: each has its own."""
    for kind in type(module).__mro__:
        function = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if function is not None:
            return function(module, *args, **kwargs)
    raise ModelError(f'{type(module).__name__} has no eager attention; use model.attention="sdpa"')


def _prefixed(usual: Callable[..., Any]) -> Callable[..., Any]:
    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> Any:
        own = getattr(module, SLOT, None)
        found = own.before(module, key, value) if isinstance(own, Prefixing) else None
        if found is None:
            return usual(module, query, key, value, mask, **kwargs)
        rows, length, seen = len(key), found[0].shape[2], key.shape[2]
        if mask is None and query.shape[2] > 1 and _is_causal(module, kwargs):
            mask = torch.ones(query.shape[2], seen, dtype=torch.bool, device=key.device)
            mask = mask.tril(seen - query.shape[2])[None, None]
        key = torch.cat([found[0].to(key.dtype).expand(rows, -1, -1, -1), key], 2)
        value = torch.cat([found[1].to(value.dtype).expand(rows, -1, -1, -1), value], 2)
        if mask is not None:
            mask = functional.pad(mask, (length, 0), value=True if mask.dtype == torch.bool else 0.0)
        if kwargs.get("position_bias") is not None:
            kwargs["position_bias"] = functional.pad(kwargs["position_bias"], (length, 0))
        return usual(module, query, key, value, mask, **kwargs)

    return attend


def _is_causal(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)
