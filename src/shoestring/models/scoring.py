"""What a scorer is, and reading logits only at the positions that are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.errors import ModelError
from shoestring.models.batch import Batch
from shoestring.models.folding import folded_inputs, is_folded
from shoestring.models.tail import tail_in_use
from shoestring.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scorer(Protocol):
    """Turns a batch into one score per candidate.

    Attributes:
        has_vocabulary: whether answers have log-probabilities over a vocabulary.

    One that takes folded batches (see `folding`) has `folds_causally` besides: whether tokens see only those before.
    """

    has_vocabulary: bool

    def scores(self, model: PreTrainedModel, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return scores [N, C], sums over the tokens of each candidate; float32, or float64 for float64 weights.

        With `relative`, a number that all candidates of an example share may be left out: a softmax over them does not
        see it, and a normaliser over the vocabulary is one.
        """
        ...

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return sum of log p(token) over the right answer's tokens [N], and the number of those tokens [N]."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A scorer that gives a probability to what is read as well."""

    def text_log_probs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Return the sum of log p over all tokens of prompt and right answer but the first [N]."""
        ...


# Of each head that was asked about: what `_is_last` says.
_LAST: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()
SCORERS: Registry[Scorer] = Registry("model kind", "shoestring.models.scorers")


def logits_at(model: PreTrainedModel, inputs: Batch, positions: Tensor) -> Tensor:
    """Return vocabulary logits [N, P, V] at `positions` [N, P] only; [N, V] at one position each, [N].

    The output embedding is applied to P hidden states a row instead of all L, which saves most of the memory and, for
    small models, most of the time; everything before and after it (tanh caps, scales) is the model's own. Where the
    tail of the model is known (`tails_read`), it is applied to these alone as well.
    """
    if positions.ndim == 1:
        return logits_at(model, inputs, positions[:, None])[:, 0]
    with tail_in_use(model).narrowed(positions), _narrowed(model, positions):
        return logits_of(model, inputs)


def token_logits_at(model: PreTrainedModel, inputs: Batch, positions: Tensor, tokens: Tensor) -> Tensor:
    """Return the logits of `tokens` [N, C] at `positions` [N], or of [N, P, C] at [N, P].

    Without gradients, the output embedding is applied for these tokens only, where it is a plain layer and no bias is
    added behind it: of a large vocabulary that saves nearly all of it, and a zeroth-order step has that much less to
    perturb. (With gradients, a table of them for the whole vocabulary is made either way.)
    """
    head = model.get_output_embeddings()
    if not torch.is_grad_enabled() and _is_plain(head) and _is_last(model, head):
        # As a list, and a tensor made of that: an engine that repeats the batch then knows it as common to all rows.
        chosen = torch.tensor(tokens.unique().tolist(), device=tokens.device)
        with _confined(head, chosen):
            logits = logits_at(model, inputs, positions)
        if logits.shape[-1] == len(chosen):
            return logits.gather(-1, (tokens[..., None] == chosen).int().argmax(-1))
    return logits_at(model, inputs, positions).gather(-1, tokens)


def logits_of(model: PreTrainedModel, inputs: Batch) -> Tensor:
    """Return the model's logits in full precision; no keys and values are kept for a generation that will not come."""
    with _uncached(model):
        return full_precision(model(**inputs).logits)


def model_inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    """Return what the model's forward takes; segment ids only where the model has an embedding for them."""
    segments = ["token_type_ids"] if segment_count(model) else []
    if is_folded(batch):
        return folded_inputs(model, batch, causal=False) | {name: batch[name] for name in segments}
    return {name: batch[name] for name in ("input_ids", "attention_mask", *segments)}


def segment_count(model: PreTrainedModel) -> int:
    """Return how many segments a model tells apart: 0 where it reads no segment ids, or has but one embedding."""
    count = getattr(model.config, "type_vocab_size", 0)
    return count if count > 1 else 0


def full_precision(tensor: Tensor) -> Tensor:
    """Return `tensor` in float32; float64 stays. Half-precision scores would differ in the second decimal."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log softmax(logits)[token] [N, T], in full precision, of logits [N, T, V], without another such table."""
    logits = full_precision(logits)
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)


def _is_plain(head: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Return whether all that a layer does is W x + b, with nothing hung on it that expects the whole vocabulary."""
    if type(head) is not nn.Linear or "forward" in vars(head):
        return False
    return not (head._forward_hooks or head._forward_pre_hooks or head._parameters["weight"] is None)


def _is_last(model: PreTrainedModel, head: nn.Linear) -> bool:
    """Return whether nothing of a model but its head is a vector over the vocabulary, which would not fit some tokens.

    BART and ESM add such a bias behind the head. Only shapes are looked at, so that no engine takes it for a forward
    pass, and only once a head.
    """
    if head not in _LAST:
        own, size = head._parameters["bias"], head.out_features
        shapes = [value.shape for value in (*model.parameters(), *model.buffers()) if value is not own]
        _LAST[head] = not any(shape.numel() == size == shape[-1] for shape in shapes if len(shape))
    return _LAST[head]


@contextmanager
def _confined(head: nn.Linear, tokens: Tensor) -> Iterator[None]:
    """Let a head give the logits of some tokens only."""

    def forward(input: Tensor) -> Tensor:
        bias = None if head.bias is None else head.bias[tokens]
        return functional.linear(input, head.weight[tokens], bias)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


@contextmanager
def _uncached(model: PreTrainedModel) -> Iterator[None]:
    cached = getattr(model.config, "use_cache", None)
    if cached is None:
        yield
        return
    model.config.use_cache = False
    try:
        yield
    finally:
        model.config.use_cache = cached


@contextmanager
def _narrowed(model: PreTrainedModel, positions: Tensor) -> Iterator[None]:
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__} has no output embedding, so there are no vocabulary logits to read")
    rows = torch.arange(positions.shape[0], device=positions.device)[:, None]

    def narrow(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        device = arguments[0].device  # A model may be spread over several.
        return (arguments[0][rows.to(device), positions.to(device)], *arguments[1:])

    handle = head.register_forward_pre_hook(narrow)
    try:
        yield
    finally:
        handle.remove()
