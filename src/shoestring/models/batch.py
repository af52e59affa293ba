"""Batches: encoded prompts padded into tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from shoestring.prompts.encoding import EncodedPrompt

Batch = dict[str, Tensor]


def collate(prompts: Sequence[EncodedPrompt], pad_id: int) -> Batch:
    """Pad prompts on the right into one batch; of a prompt that is taught otherwise than asked, what is taught.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` [N, L]; `labels` [N] (int64 ids, or float32 values);
        and for prompted models `position` [N], `option_ids`, `option_mask` and `option_scored` [N, C, O]: the mask is 1
        at a candidate's tokens, `option_scored` at those of them whose log-probabilities count. Where prompts have
        different numbers of candidates, C is the largest, and both are zero for a candidate that is not there.
    """
    prompts = [prompt.taught or prompt for prompt in prompts]
    length = max(len(prompt.ids) for prompt in prompts)
    batch = {
        "input_ids": _padded([prompt.ids for prompt in prompts], length, pad_id),
        "attention_mask": _padded([(1,) * len(prompt.ids) for prompt in prompts], length, 0),
        "token_type_ids": _padded([prompt.segment_ids for prompt in prompts], length, 0),
        "labels": torch.tensor([prompt.label for prompt in prompts]),
    }
    positions = [prompt.position for prompt in prompts if prompt.position is not None]
    if positions:
        batch["position"] = torch.tensor(positions)
    if any(prompt.options for prompt in prompts):
        width = max(len(option) for prompt in prompts for option in prompt.options)
        count = max(len(prompt.options) for prompt in prompts)
        rows = [[*prompt.options, *[()] * (count - len(prompt.options))] for prompt in prompts]
        batch["option_ids"] = torch.stack([_padded(options, width, pad_id) for options in rows])
        ones = [[(1,) * len(option) for option in options] for options in rows]
        batch["option_mask"] = torch.stack([_padded(options, width, 0) for options in ones])
        scored = [[*_scored(prompt), *[()] * (count - len(prompt.options))] for prompt in prompts]
        batch["option_scored"] = torch.stack([_padded(options, width, 0) for options in scored])
    return batch


def batches(prompts: Sequence[EncodedPrompt], size: int) -> Iterator[list[int]]:
    """Yield lists of indices into `prompts`, at most `size` long, with prompts of similar length together.

    Sorting by length keeps padding small; the indices let the caller put results back in order.
    """
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index].ids), index))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _scored(prompt: EncodedPrompt) -> list[tuple[int, ...]]:
    lengths = zip(prompt.options, prompt.scored_lengths, strict=True)
    return [(0,) * (len(option) - scored) + (1,) * scored for option, scored in lengths]


def _padded(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)
