"""Batches: encoded prompts padded into tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from shoestring.models.packing import SOURCES, Row, pack, stack
from shoestring.prompts.encoding import EncodedPrompt

Batch = dict[str, Tensor]
# Beyond this share of the tokens it may have, a batch gains nothing from more rows if less than this share is filled.
_ENOUGH, _FILLED = 1 / 8, 0.9


def collate(prompts: Sequence[EncodedPrompt], pad_id: int, *, share: bool = False) -> Batch:
    """Pad prompts on the right into one batch; of a prompt that is taught otherwise than asked, what is taught.

    Args:
        prompts: encoded prompts.
        pad_id: the token to pad with.
        share: add rows of T tokens in which each prompt stands once, followed by a trie of its candidates.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` [N, L]; `labels` [N] (int64 ids, or float32 values);
        and for prompted models `position` [N], `option_ids`, `option_mask` and `option_scored` [N, C, O]: the mask is 1
        at a candidate's tokens, `option_scored` at those of them whose log-probabilities count. Where prompts have
        different numbers of candidates, C is the largest, and both are zero for a candidate that is not there. Where
        several candidates may be right, `option_right` [N, C] is 1 at those that are. With
        `share` also `tree_ids`, `tree_positions`, `tree_ends` [N, T], `tree_reads` [N, R] and `tree_sources` [N, C, O]:
        see `packing`.
    """
    prompts = [prompt.taught or prompt for prompt in prompts]
    length = max(len(prompt.ids) for prompt in prompts)
    batch = {
        "input_ids": padded([prompt.ids for prompt in prompts], length, pad_id),
        "attention_mask": padded([(1,) * len(prompt.ids) for prompt in prompts], length, 0),
        "token_type_ids": padded([prompt.segment_ids for prompt in prompts], length, 0),
        "labels": torch.tensor([prompt.label for prompt in prompts]),
    }
    positions = [prompt.position for prompt in prompts if prompt.position is not None]
    if positions:
        batch["position"] = torch.tensor(positions)
    if any(prompt.options for prompt in prompts):
        width = max(len(option) for prompt in prompts for option in prompt.options)
        count = max(len(prompt.options) for prompt in prompts)
        rows = [[*prompt.options, *[()] * (count - len(prompt.options))] for prompt in prompts]
        batch["option_ids"] = torch.stack([padded(options, width, pad_id) for options in rows])
        ones = [[(1,) * len(option) for option in options] for options in rows]
        batch["option_mask"] = torch.stack([padded(options, width, 0) for options in ones])
        scored = [[*_scored(prompt), *[()] * (count - len(prompt.options))] for prompt in prompts]
        batch["option_scored"] = torch.stack([padded(options, width, 0) for options in scored])
        if any(prompt.right for prompt in prompts):
            right = [[int(number in prompt.right) for number in range(count)] for prompt in prompts]
            batch["option_right"] = torch.tensor(right)
        if share:
            packed = [pack([prompt]) for prompt in prompts]
            batch |= stack(packed, pad_id)
            batch[SOURCES] = _sources(packed, batch["option_scored"])
    return batch


def batches(
    prompts: Sequence[EncodedPrompt], size: int, tokens: int | None = None, lengths: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield lists of indices into `prompts`, with prompts of similar length together, the longest first.

    Sorting by length keeps padding small, and the most memory is asked for at once; the indices let the caller put
    results back in order. Where `tokens` bounds a batch, one that has a good part of them ends before much of it would
    be padding.

    Args:
        prompts: what is put into batches.
        size: most prompts of a batch.
        tokens: most tokens of a batch, padding included; a longer prompt is alone.
        lengths: of each prompt; by default the number of its ids.
    """
    lengths = [len(prompt.ids) for prompt in prompts] if lengths is None else lengths
    order = sorted(range(len(prompts)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        longest, end, held = max(1, lengths[order[start]]), start, 0
        while end < len(order) and end - start < size:
            held += lengths[order[end]]
            padded = longest * (end + 1 - start)
            if tokens is not None and end > start:
                sparse = padded > _ENOUGH * tokens and held < _FILLED * padded
                if padded > tokens or sparse:
                    break
            end += 1
        yield order[start:end]
        start = end


def _sources(rows: Sequence[Row], scored: Tensor) -> Tensor:
    """Return where the tokens of candidates are predicted [N, C, O], 0 where none is scored."""
    places = torch.zeros_like(scored)
    for place, mask, row in zip(places, scored.bool(), rows, strict=True):
        place[mask] = torch.tensor(row.sources)
    return places


def _scored(prompt: EncodedPrompt) -> list[tuple[int, ...]]:
    lengths = zip(prompt.options, prompt.scored_lengths, strict=True)
    return [(0,) * (len(option) - scored) + (1,) * scored for option, scored in lengths]


def padded(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    """Return rows of integers as a tensor [N, length], filled up with `value`."""
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)
