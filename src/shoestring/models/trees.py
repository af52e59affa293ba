"""Forward passes over rows of tries: a mask by which each token sees its ancestors, and log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.folding import first_position
from shoestring.models.packing import ENDS, IDS, POSITIONS, READS
from shoestring.models.scoring import logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def sees(ends: Tensor, behind: int = 0) -> Tensor:
    """Return whether token i of a row sees token j [N, T, behind + T]; the tokens before the row are seen by all."""
    count = ends.shape[1]
    order = torch.arange(count, device=ends.device)
    seen = (order[:, None] < ends[:, None, :]) & (order[None, :] <= order[:, None])
    return seen if behind == 0 else torch.cat([seen.new_ones(len(ends), count, behind), seen], 2)


def log_probs(model: PreTrainedModel, trees: Batch, sources: Tensor, targets: Tensor, cache: Any = None) -> Tensor:
    """Return log p of tokens of rows, each given its ancestors, normalised over the vocabulary.

    Only the outputs at the places that are read meet the output embedding, each once.

    Args:
        model: a causal model that takes masks of four axes and positions (see `sharing`).
        trees: what `stack` returned.
        sources: for every token asked for the index in the row's `reads` [N, ...].
        targets: those tokens, of the same shape.
        cache: keys and values of tokens before the rows; it has those of the rows too afterwards.
    """
    ends = trees[ENDS]
    behind = 0 if cache is None else int(cache.get_seq_length())
    seen = sees(ends, behind)
    # Added to attention scores, since not every attention takes booleans.
    mask = torch.zeros_like(seen, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    inputs: dict[str, Any] = {
        "input_ids": trees[IDS],
        "position_ids": trees[POSITIONS] + first_position(model),
        "attention_mask": mask[:, None],
    }
    if cache is not None:
        inputs["past_key_values"] = cache
    logits = logits_at(model, inputs, trees[READS])
    rows = torch.arange(len(ends), device=ends.device).view(-1, *[1] * (sources.ndim - 1))
    return logits[rows, sources, targets] - logits.logsumexp(-1)[rows, sources]
