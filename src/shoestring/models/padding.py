"""What a model would write behind a prompt that is alone, and behind one that stands beside another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shoestring.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens written behind a prompt, and how many of the likeliest at each step are compared.
_STEPS, _LIKELY = 2, 16


def likeliest(model: PreTrainedModel, tokens: Sequence[int], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return log p of the likeliest next tokens at the first steps of an answer [S, K], and these tokens [S, K].

    Args:
        model: a causal model in eval mode.
        tokens: the prompt.
        pad_id: the token to pad with.
    """
    found = _log_probs(model, [tokens], pad_id)
    tokens_of = found.topk(min(_LIKELY, found.shape[1])).indices
    return found.gather(1, tokens_of), tokens_of


def beside(model: PreTrainedModel, tokens: Sequence[int], other: Sequence[int], pad_id: int, likely: Tensor) -> Tensor:
    """Return log p of the tokens `likely` [S, K] where another prompt, at least as long, is in the batch.

    Args:
        model: a causal model in eval mode.
        tokens: the prompt; padding in front of it makes it as long as the other.
        other: the other prompt.
        pad_id: the token to pad with.
        likely: tokens of each step of the answer to `tokens`.
    """
    return _log_probs(model, [tokens, other], pad_id).gather(1, likely)


def _log_probs(model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Return log p of all tokens at the first steps of the answer to the first prompt [S, V].

    They come from transformers' `generate`, which makes positions and masks by each model's own rules. A second step
    is made, behind a token that is always the same, so that what is kept between steps is tried too.
    """
    from transformers import GenerationConfig

    from shoestring.models.decoding import Forced, without_own_config

    length = max(map(len, prompts))
    ids = [[pad_id] * (length - len(tokens)) + list(tokens) for tokens in prompts]
    mask = [[0] * (length - len(tokens)) + [1] * len(tokens) for tokens in prompts]
    forced = Forced(prompts[0][-1])
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    write: Any = model.generate
    with torch.no_grad(), quiet(), without_own_config(model):
        config = GenerationConfig(max_new_tokens=_STEPS, pad_token_id=pad_id)
        placed = {name: value.to(model.device) for name, value in inputs.items()}
        write(**placed, generation_config=config, logits_processor=[forced])
    return torch.stack([scores[0] for scores in forced.scores]).log_softmax(-1)
