"""Scores the slow way: one prompt and one candidate at a time, no padding, no attention mask, all logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shoestring.prompts.encoding import EncodedPrompt


def logits(model: Any, ids: Sequence[int], **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), **more).logits[0]


def answer_log_probs(model: Any, prompt: EncodedPrompt, option: Sequence[int]) -> list[float]:
    """Return log p of each token of `option` after the prompt."""
    rows = logits(model, (*prompt.ids, *option)).log_softmax(-1)
    start = len(prompt.ids)
    return [float(rows[start + place - 1, token]) for place, token in enumerate(option)]


def causal_scores(model: Any, prompts: Sequence[EncodedPrompt]) -> list[list[float]]:
    """Return the mean log-probability of each candidate's scored tokens."""
    return [
        _means(prompt, [answer_log_probs(model, prompt, option) for option in prompt.options]) for prompt in prompts
    ]


def decoded_log_probs(model: Any, prompt: EncodedPrompt, option: Sequence[int]) -> list[float]:
    """Return log p of each token of `option` in the decoder of a model whose encoder reads the prompt."""
    config = model.generation_config
    start = [config.decoder_start_token_id]
    start += [config.forced_bos_token_id] if config.forced_bos_token_id is not None else []
    rows = logits(model, prompt.ids, decoder_input_ids=torch.tensor([[*start, *option]])).log_softmax(-1)
    return [float(rows[len(start) + place - 1, token]) for place, token in enumerate(option)]


def seq2seq_scores(model: Any, prompts: Sequence[EncodedPrompt]) -> list[list[float]]:
    """Return the mean log-probability of each candidate's scored tokens; of each prompt as many as it has."""
    return [
        _means(prompt, [decoded_log_probs(model, prompt, option) for option in prompt.options]) for prompt in prompts
    ]


def _means(prompt: EncodedPrompt, found: Sequence[Sequence[float]]) -> list[float]:
    ends = [row[-last:] for row, last in zip(found, prompt.scored_lengths, strict=True)]
    return [sum(row) / len(row) for row in ends]


def masked_scores(model: Any, prompts: Sequence[EncodedPrompt]) -> list[list[float]]:
    """Return the logit of each label word at the mask."""
    scores = []
    for prompt in prompts:
        rows = logits(model, prompt.ids, **_segments(model, prompt))
        scores.append([float(rows[prompt.position, option[0]]) for option in prompt.options])
    return scores


def masked_answers(model: Any, prompts: Sequence[EncodedPrompt]) -> list[float]:
    """Return log p of the right label word at the mask, over the vocabulary."""
    found = []
    for prompt in prompts:
        rows = logits(model, prompt.ids, **_segments(model, prompt)).log_softmax(-1)
        found.append(float(rows[prompt.position, prompt.options[int(prompt.label)][0]]))
    return found


def head_scores(model: Any, prompts: Sequence[EncodedPrompt]) -> list[list[float]]:
    """Return the head's logits."""
    return [logits(model, prompt.ids, **_segments(model, prompt)).tolist() for prompt in prompts]


def _segments(model: Any, prompt: EncodedPrompt) -> dict[str, torch.Tensor]:
    return {"token_type_ids": torch.tensor([prompt.segment_ids])} if model.config.model_type == "bert" else {}
