"""What transformers' `generate` is called with, how it goes on behind a call, and what happens at its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria
from transformers.modeling_outputs import BaseModelOutput

from shoestring.models.prefix import Prefix
from shoestring.models.scorers.seq2seq import decoder_start
from shoestring.models.virtual import virtual_tokens
from shoestring.seeds import derive, torch_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.prompts.encoding import EncodedPrompt


@dataclass(frozen=True)
class Answers:
    """The answers to a batch of prompts while they are written: M of them.

    Attributes:
        ids: what was read and written so far by the part of the model that writes [M, start + written].
        seen: attention mask of the prompts [M, L].
        rows: of each answer, the number of its prompt in the batch [M].
        start: tokens before the answers.
        memory: what the encoder made of the prompts, if the model has one [M, L, H].
        cache: keys and values of the first of `ids`, if there are any that can be kept.
    """

    ids: Tensor
    seen: Tensor
    rows: Tensor
    start: int
    memory: Tensor | None = None
    cache: Any = None

    @classmethod
    def begin(cls, model: PreTrainedModel, prompts: Sequence[EncodedPrompt], pad_id: int, prefix: Prefix) -> Answers:
        """Return the answers before anything is written.

        Prompts that are to be continued are padded on the left, behind what they have in common: `prefix`. Those for an
        encoder, whose positions are counted from the left, padding included, are padded on the right.
        """
        length, encodes = max(len(prompt.ids) for prompt in prompts), model.config.is_encoder_decoder
        padded, ones = [], []
        for prompt in prompts:
            gap, place = length - len(prompt.ids), len(prompt.ids) if encodes else prefix.length
            padded.append([*prompt.ids[:place], *[pad_id] * gap, *prompt.ids[place:]])
            ones.append([1] * place + [0] * gap + [1] * (len(prompt.ids) - place))
        ids, seen = (torch.tensor(rows, device=model.device) for rows in (padded, ones))
        rows = torch.arange(len(prompts), device=model.device)
        if not encodes:
            return cls(ids, seen, rows, length, cache=prefix.repeated(len(prompts)) if prefix.length else None)
        encoder: Any = model.get_encoder()
        memory = encoder(input_ids=ids, attention_mask=seen).last_hidden_state
        start = torch.tensor([decoder_start(model)] * len(prompts), device=model.device)
        return cls(start, seen, rows, start.shape[1], memory)

    @property
    def written(self) -> int:
        """Tokens of each answer so far."""
        return self.ids.shape[1] - self.start

    def inputs(self) -> dict[str, Any]:
        """Return what `generate` goes on from."""
        more = {} if self.cache is None else {"past_key_values": self.cache}
        ones = torch.ones_like(self.ids)
        if self.memory is None:
            return {"input_ids": self.ids, "attention_mask": torch.cat([self.seen, ones[:, self.start :]], 1), **more}
        decoder = {"decoder_input_ids": self.ids, "decoder_attention_mask": ones}
        memory = BaseModelOutput(last_hidden_state=self.memory)
        return {"encoder_outputs": memory, "attention_mask": self.seen, **decoder, **more}

    def behind(self, model: PreTrainedModel, out: Any, going: Tensor) -> Answers:
        """Return the answers that go on [M] after `generate` gave `out`; those that ended are left out."""
        memory = None if self.memory is None else self.memory[going]
        cache = out.past_key_values if bool(going.any()) and _can_shrink(model, out.past_key_values) else None
        if cache is not None:
            cache.batch_select_indices(going.nonzero()[:, 0])
        return Answers(out.sequences[going], self.seen[going], self.rows[going], self.start, memory, cache)


class HalfDone(StoppingCriteria):
    """Ends a call once half of its rows have ended: these are taken out of the batch, and the others go on.

    So no row is computed more than twice as often as it needs, and a batch is cut at most log2(N) + 1 times.

    Args:
        start: tokens before the answers.
        stops: tokens that end an answer.
    """

    def __init__(self, start: int, stops: Tensor) -> None:
        self._start, self._stops = start, stops

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """Return for each row [N] whether it has ended."""
        ended = torch.isin(input_ids[:, self._start :], self._stops).any(1)
        return ended | (2 * ended.sum() >= len(ended))


class Doubt(LogitsProcessor):
    """Notes rows with scores that are no numbers: the token that they seem to say means nothing.

    Attributes:
        rows: whether that happened to a row; None before the first step.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        """Return the scores [N, V] as they are."""
        found = scores.isnan().any(1)
        self.rows = found if self.rows is None else self.rows | found
        return scores


class Draws(LogitsProcessor):
    """Makes the highest score that of a token drawn from softmax(scores), by adding Gumbel noise to them.

    argmax_v (s_v - log E_v), with independent exponential E_v, is v with probability softmax(s)_v. The noise is a
    function of (seed, example, place in the answer), so what is drawn does not depend on the batch, and no generator
    is left in another state.

    Args:
        seed: of the stream.
        uids: of the example of each row.
        start: tokens before the answers.

    Source: Maddison et al. 2014 ("A* sampling"), section 2: the Gumbel-max trick.
    """

    def __init__(self, seed: int, uids: Sequence[str], start: int) -> None:
        self._seeds, self._start = [derive(seed, "generation", uid) for uid in uids], start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        """Return scores [N, V] with noise."""
        place, size = input_ids.shape[1] - self._start, scores.shape[1]
        rows = [
            torch.empty(size, dtype=torch.float64).exponential_(generator=torch_stream(seed, place))
            for seed in self._seeds
        ]
        noise = torch.stack(rows).clamp_(min=torch.finfo(torch.float64).tiny).log_()
        return scores - noise.to(scores.device, scores.dtype)


class Forced(LogitsProcessor):
    """Makes every token that is written the same, whatever the model says, and keeps what it says.

    Args:
        token: what is written.

    Attributes:
        scores: the scores of each step [N, V].
    """

    def __init__(self, token: int) -> None:
        self._token = token
        self.scores: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        """Return scores [N, V] of which the token's is the highest."""
        self.scores.append(scores.clone())
        return torch.zeros_like(scores).index_fill_(1, torch.tensor([self._token], device=scores.device), 1.0)


@contextmanager
def without_own_config(model: PreTrainedModel) -> Iterator[None]:
    """Let no generation config of a checkpoint (penalties, least lengths, beams) have a say."""
    # Wrapped models have copies of their own.
    owners: list[Any] = [module for module in model.modules() if vars(module).get("generation_config") is not None]
    configs = [module.generation_config for module in owners]
    try:
        for module, config in zip(owners, configs, strict=True):
            kept = {name: getattr(config, name) for name in ("decoder_start_token_id", "forced_bos_token_id")}
            module.generation_config = GenerationConfig(**kept)
        yield
    finally:
        for module, config in zip(owners, configs, strict=True):
            module.generation_config = config


def _can_shrink(model: PreTrainedModel, cache: Any) -> bool:
    """Return whether rows can be taken out of a cache; where they cannot, what was read is read again."""
    parts = [getattr(cache, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    layers = [layer for part in ([cache] if parts[0] is None else parts) for layer in getattr(part, "layers", ())]
    return (
        virtual_tokens(model) == 0 and bool(layers) and all(hasattr(layer, "batch_select_indices") for layer in layers)
    )
