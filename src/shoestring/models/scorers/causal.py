"""Causal models: the score of a candidate is the log-probability of its tokens after the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.models.batch import Batch
from shoestring.models.scoring import SCORERS, logits_at, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CausalScorer:
    """f_c(x) = sum_j log p(a_cj | x, a_c,<j), candidates a_c of any length.

    When every candidate is one token, all are read from one position of one forward pass per prompt; otherwise the
    prompt is repeated once per candidate.

    Source: Malladi et al. 2023 (MeZO), section 3.2 and appendix E.
    """

    has_vocabulary = True

    def scores(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Return candidate log-probabilities [N, C]; 0 for a candidate that is not there."""
        if batch["option_ids"].shape[2] == 1:
            return self._one_token(model, batch)
        log_probs = self._token_log_probs(model, batch, batch["option_ids"], batch["option_mask"])
        return (log_probs * batch["option_scored"]).sum(-1)

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return sum of log p over the right answer's tokens [N], and their number [N]."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        answer = batch["option_ids"][rows, batch["labels"]][:, None]
        mask = batch["option_mask"][rows, batch["labels"]][:, None]
        scored = batch["option_scored"][rows, batch["labels"]]
        log_probs = self._token_log_probs(model, batch, answer, mask)[:, 0] * scored
        return log_probs.sum(-1), scored.sum(-1).to(log_probs.dtype)

    def _one_token(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        logits = logits_at(model, model_inputs(model, batch), batch["position"][:, None])
        return logits[:, 0].log_softmax(-1).gather(1, batch["option_ids"][:, :, 0])

    def _token_log_probs(self, model: PreTrainedModel, batch: Batch, options: Tensor, mask: Tensor) -> Tensor:
        """Return log p of every option token, zero where `mask` is zero [N, C, O]."""
        count, candidates, width = options.shape
        ids, seen = _continued(batch, options, mask)
        # Token j of the option is predicted by the position before it.
        offsets = torch.arange(width, device=ids.device)
        positions = (batch["position"][:, None] + offsets).repeat_interleave(candidates, 0)
        logits = logits_at(model, {"input_ids": ids, "attention_mask": seen}, positions)
        tokens = options.reshape(count * candidates, width, 1)
        log_probs = logits.log_softmax(-1).gather(2, tokens)[..., 0]
        return log_probs.reshape(count, candidates, width) * mask


def _continued(batch: Batch, options: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask [N*C, L+O] of each prompt followed, without a gap, by each of its options."""
    count, candidates, width = options.shape
    ids = functional.pad(batch["input_ids"], (0, width)).repeat_interleave(candidates, 0)
    seen = functional.pad(batch["attention_mask"], (0, width)).repeat_interleave(candidates, 0)
    start = (batch["position"] + 1).repeat_interleave(candidates, 0)
    places = start[:, None] + torch.arange(width, device=ids.device)
    ids = ids.scatter(1, places, options.reshape(count * candidates, width))
    seen = seen.scatter(1, places, mask.reshape(count * candidates, width))
    return ids, seen


SCORERS.register("causal")(CausalScorer())
