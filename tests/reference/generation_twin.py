"""Answers the slow way: one prompt at a time, no padding, no cache, the whole input anew for every token."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

Choose = Callable[[torch.Tensor, int], int]
"""Takes logits [V] and the place in the answer, and gives a token."""


def likeliest(logits: torch.Tensor, _: int) -> int:
    return int(logits.argmax())


def next_logits(model: Any, ids: Sequence[int], found: Sequence[int]) -> torch.Tensor:
    """Return the logits [V] of the token behind `found`, which answers `ids`."""
    config = model.generation_config
    with torch.no_grad():
        if not model.config.is_encoder_decoder:
            return model(input_ids=torch.tensor([[*ids, *found]])).logits[0, -1].float()
        start = [token for token in (config.decoder_start_token_id, config.forced_bos_token_id) if token is not None]
        decoder = torch.tensor([[*start, *found]])
        return model(input_ids=torch.tensor([list(ids)]), decoder_input_ids=decoder).logits[0, -1].float()


def answer(model: Any, ids: Sequence[int], stops: Collection[int], most: int, choose: Choose = likeliest) -> list[int]:
    """Return the tokens of an answer, the stop included."""
    found: list[int] = []
    while len(found) < most and not set(found) & set(stops):
        found.append(choose(next_logits(model, ids, found), len(found)))
    return found


def best_of_two(model: Any, ids: Sequence[int], stop: int) -> list[int]:
    """Return the answer of highest mean log-probability among all that stop within two tokens or have two."""
    first = next_logits(model, ids, []).log_softmax(-1)
    totals: dict[tuple[int, ...], float] = {(stop,): float(first[stop])}
    for one in range(len(first)):
        if one != stop:
            second = next_logits(model, ids, [one]).log_softmax(-1)
            totals |= {(one, two): float(first[one] + second[two]) / 2 for two in range(len(second))}
    return list(max(totals, key=lambda key: totals[key]))


def shares(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Return the probability [V] of each token to be drawn."""
    probabilities = (logits / temperature).softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    before = [0.0, *itertools.accumulate(float(probabilities[token]) for token in order)]
    kept = [token for token, sum_before in zip(order, before, strict=False) if sum_before < top_p]
    found = torch.zeros_like(probabilities)
    found[kept] = probabilities[kept]
    return found / found.sum()
