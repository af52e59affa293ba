"""Causal models: the score of a candidate is the log-probability of its tokens after the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.models.batch import Batch
from shoestring.models.folding import folded_inputs, in_rows, is_folded
from shoestring.models.packing import IDS, SOURCES
from shoestring.models.scoring import SCORERS, logits_at, logits_of, token_log_probs, token_logits_at
from shoestring.models.trees import log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CausalScorer:
    """f_c(x) = sum_j log p(a_cj | x, a_c,<j), candidates a_c of any length.

    When every candidate is one token, all are read from one position of one forward pass per prompt. Longer candidates
    follow the prompt in one row, as a trie in which each token sees its ancestors, where the batch brings that layout;
    otherwise the prompt is repeated once per candidate.

    Padding stands behind everything that is read, where causal attention hides it: there is no mask for it, and so the
    fastest kernels serve ragged batches too.

    Source: Malladi et al. 2023 (MeZO), section 3.2 and appendix E.
    """

    has_vocabulary = True
    shares_prompts = True
    folds_causally = True

    def scores(self, model: PreTrainedModel, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return candidate log-probabilities [N, C]; 0 for a candidate that is not there.

        With `relative`, candidates of one token have their logits: the normaliser is the same for all.
        """
        options, scored = batch["option_ids"], batch["option_scored"]
        if options.shape[2] == 1:
            return self._one_token(model, batch, relative=relative)
        if IDS in batch:
            found = log_probs(model, batch, in_rows(batch, batch[SOURCES]), in_rows(batch, options))
            return (found.view_as(scored) * scored).sum(-1)
        return self._repeated(model, batch, options, batch["option_mask"], scored)

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return sum of log p over the right answer's tokens [N], and their number [N]."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        names = ("option_ids", "option_mask", "option_scored")
        answer, mask, scored = (batch[name][rows, batch["labels"]][:, None] for name in names)
        if is_folded(batch):
            sums = self.scores(model, batch)[rows, batch["labels"]]
        else:
            sums = self._repeated(model, batch, answer, mask, scored)[:, 0]
        return sums, scored[:, 0].sum(-1).to(sums.dtype)

    def text_log_probs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Return the sum of log p over all tokens of prompt and right answer but the first [N]; all logits are read."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        answer, mask = (batch[name][rows, batch["labels"]][:, None] for name in ("option_ids", "option_mask"))
        ids = _continued(batch, answer)
        found = token_log_probs(logits_of(model, _unmasked(ids[:, :-1])), ids[:, 1:])
        lengths = batch["position"] + 1 + mask[:, 0].sum(-1)
        return (found * (torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None])).sum(-1)

    def _one_token(self, model: PreTrainedModel, batch: Batch, *, relative: bool) -> Tensor:
        positions, tokens = in_rows(batch, batch["position"]), in_rows(batch, batch["option_ids"][:, :, 0])
        whole = is_folded(batch)
        inputs = folded_inputs(model, batch, causal=True) if whole else _unmasked(batch["input_ids"])
        if relative:
            found = token_logits_at(model, inputs, positions, tokens)
        else:
            found = logits_at(model, inputs, positions).log_softmax(-1).gather(-1, tokens)
        return found.view(len(batch["position"]), -1)

    def _repeated(self, model: PreTrainedModel, batch: Batch, options: Tensor, mask: Tensor, scored: Tensor) -> Tensor:
        """Return the sums of log p of scored tokens [N, C] from one row a candidate."""
        count, candidates, _ = options.shape
        # The last token of a candidate predicts nothing that is read.
        ids = _continued(batch, options[..., :-1])
        # Tokens that are scored stand at the end of each candidate: as many of its places as the most have are read.
        most = int(scored.sum(-1).max())
        lengths = mask.sum(-1, keepdim=True)
        places = (lengths - most).clamp(min=0) + torch.arange(most, device=ids.device)
        # Token j of a candidate is predicted by the position before it.
        positions = (batch["position"][:, None, None] + places).reshape(count * candidates, most)
        logits = logits_at(model, _unmasked(ids), positions)
        tokens = options.gather(2, places).reshape(count * candidates, most, 1)
        found = logits.log_softmax(-1).gather(2, tokens).reshape(count, candidates, most)
        # Of a candidate with fewer tokens the last ones are not there, and their mask is zero.
        return (found * scored.gather(2, places)).sum(-1)


def _continued(batch: Batch, options: Tensor) -> Tensor:
    """Return ids [N*C, L+O] of each prompt followed, without a gap, by each of its options."""
    count, candidates, width = options.shape
    ids = functional.pad(batch["input_ids"], (0, width)).repeat_interleave(candidates, 0)
    start = (batch["position"] + 1).repeat_interleave(candidates, 0)
    places = start[:, None] + torch.arange(width, device=ids.device)
    return ids.scatter(1, places, options.reshape(count * candidates, width))


def _unmasked(ids: Tensor) -> Batch:
    """Return inputs with a mask of ones, from which models take positions, and which they know to do without."""
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


SCORERS.register("causal")(CausalScorer())
