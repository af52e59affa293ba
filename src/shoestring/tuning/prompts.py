"""Soft prompts: trained vectors that stand before the embeddings of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.errors import ModelError
from shoestring.tuning.calls import (
    by_name,
    cached_tokens,
    check_room,
    check_shared_positions,
    parameters_of,
    reader_of,
    refuse_virtual,
    room,
    width_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SLOT = "soft_prompt"
"""Name of the submodule of a model that holds its prompt."""


class SoftPrompt(nn.Module):
    """Vectors [tokens, size] before the embeddings of whatever the model reads; what it gives is of its input alone.

    Hooks on the stack that reads embeddings put them in, and cut their places off what it gives, so that heads, and
    whoever calls the model, see the input's own places. A cache of keys and values holds the prompt; later calls with
    it only move masks and positions. In models with an encoder and a decoder the encoder reads the prompt, and the
    decoder sees its places.

    Attributes:
        virtual_tokens: how many vectors.
    """

    def __init__(self, embedding: Tensor, model: PreTrainedModel) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding)
        self.virtual_tokens = len(embedding)
        self._limit = room(model)
        self._width: int | None = None

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the arguments of a call with the prompt in front, or behind a cache that holds it."""
        given, count = by_name(module, args, kwargs), self.virtual_tokens
        past, width = cached_tokens(given.get("past_key_values")), width_of(given)
        if getattr(given.get("past_key_values"), "is_compileable", False):
            raise ModelError("a soft prompt does not fit into a static cache; generate with a dynamic one")
        behind = max(0, past - count)
        check_room(count, behind + width, self._limit)
        if given.get("position_ids") is not None:
            given["position_ids"] = self._positions(given, new=past == 0)
        mask = given.get("attention_mask")
        if isinstance(mask, Tensor):
            given["attention_mask"] = self._mask(mask, behind + width, new=past == 0)
        self._width = width if past == 0 else None
        if past == 0:
            self._put_in(module, given)
        return (), given

    def cut(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return what a stack gives without the places of the prompt."""
        width, count = self._width, self.virtual_tokens
        if width is None:
            return output

        def own(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(own(one) for one in value)
            whole = isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] == width + count
            return value[:, count:] if whole else value

        if isinstance(output, tuple):
            return own(output)
        for name in ("last_hidden_state", "hidden_states"):
            if output.get(name) is not None:
                output[name] = own(output[name])
        return output

    def widen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the arguments of a call of an encoder and a decoder with a mask for the encoder's prompt too."""
        given = by_name(module, args, kwargs)
        mask = given.get("attention_mask")
        if isinstance(mask, Tensor):
            given["attention_mask"] = functional.pad(mask, (self.virtual_tokens, 0), value=1)
        return (), given

    def _put_in(self, module: nn.Module, given: dict[str, Any]) -> None:
        embeddings = given.get("inputs_embeds")
        if embeddings is None:
            embeddings = module.get_input_embeddings()(given["input_ids"])  # pyright: ignore[reportCallIssue]
        prompt = self.embedding.to(embeddings.dtype).expand(len(embeddings), -1, -1)
        given["input_ids"], given["inputs_embeds"] = None, torch.cat([prompt, embeddings], 1)
        segments = given.get("token_type_ids")
        if segments is not None:
            given["token_type_ids"] = functional.pad(segments, (self.virtual_tokens, 0), value=0)

    def _positions(self, given: dict[str, Any], *, new: bool) -> Tensor:
        moved = given["position_ids"] + self.virtual_tokens
        if not new:
            return moved
        first = torch.arange(self.virtual_tokens, device=moved.device, dtype=moved.dtype)
        return torch.cat([first.expand(len(moved), -1), moved], 1)

    def _mask(self, mask: Tensor, tokens: int, *, new: bool) -> Tensor:
        """Let everything see the prompt; of a mask of four axes the prompt's own rows see what came before."""
        count = self.virtual_tokens
        if mask.ndim == 2:
            return mask if mask.shape[1] == tokens + count else functional.pad(mask, (count, 0), value=1)
        seen = True if mask.dtype == torch.bool else 0.0
        wide = functional.pad(mask, (count, 0), value=seen)
        if not new:
            return wide
        rows = torch.ones(count, wide.shape[-1], dtype=torch.bool, device=mask.device).tril()
        if mask.dtype != torch.bool:
            rows = torch.zeros_like(rows, dtype=mask.dtype).masked_fill(~rows, torch.finfo(mask.dtype).min)
        return torch.cat([rows.expand(*wide.shape[:-2], -1, -1), wide], -2)


def insert_prompt(model: PreTrainedModel, embedding: Tensor) -> SoftPrompt:
    """Give a model a soft prompt.

    Raises:
        ModelError: if the model already reads virtual tokens or takes no embeddings, or no position is left.
    """
    refuse_virtual(model, "prompt-tuning")
    check_shared_positions(len(embedding), room(model))
    prompt = SoftPrompt(embedding, model)
    reader = reader_of(model)
    if "inputs_embeds" not in parameters_of(reader):
        raise ModelError(
            f'tuning.kind="prompt-tuning": {type(model).__name__} does not take embeddings in place of ids'
        )
    model.add_module(SLOT, prompt)
    reader.register_forward_pre_hook(prompt.read, with_kwargs=True)
    if model.config.is_encoder_decoder:
        model.base_model.register_forward_pre_hook(prompt.widen, with_kwargs=True)
    else:
        # Where an encoder is followed by a pooler, that is to see the input's first place.
        stack = getattr(reader, "encoder", None)
        for module in (reader, stack) if isinstance(stack, nn.Module) else (reader,):
            module.register_forward_hook(prompt.cut)
    return prompt


def embeddings_of(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """Return what the embedding layer gives for tokens [tokens, size]."""
    with torch.no_grad():
        return model.get_input_embeddings()(torch.tensor(list(tokens), device=model.device)).clone()
