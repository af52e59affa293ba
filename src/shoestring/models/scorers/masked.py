"""Masked models: the score of a label is the logit of its label word at the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.folding import in_rows
from shoestring.models.scoring import SCORERS, logits_at, model_inputs, token_logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MaskedScorer:
    """f_c(x) = logit of label word c at the mask.

    Source: Gao et al. 2021 (LM-BFF), eq. 1: p(y | x) is the softmax of these logits over the labels alone.
    """

    has_vocabulary = True
    folds_causally = False

    def scores(self, model: PreTrainedModel, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return label-word logits [N, C]; they are relative as they are."""
        positions, tokens = in_rows(batch, batch["position"]), in_rows(batch, batch["option_ids"][:, :, 0])
        return token_logits_at(model, model_inputs(model, batch), positions, tokens).view(len(batch["position"]), -1)

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log p(right label word at the mask), normalised over the vocabulary [N], and ones [N]."""
        logits = logits_at(model, model_inputs(model, batch), in_rows(batch, batch["position"])).flatten(0, -2)
        answer = batch["option_ids"][:, :, 0].gather(1, batch["labels"][:, None])
        log_probs = logits.log_softmax(-1).gather(1, answer)[:, 0]
        return log_probs, torch.ones_like(log_probs)


SCORERS.register("masked")(MaskedScorer())
