"""Sequence-to-sequence models: the encoder reads the prompt, the decoder is asked how likely each candidate is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.scoring import SCORERS, full_precision, token_log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Seq2SeqScorer:
    """f_c(x) = sum_j log p(a_cj | x, a_c,<j), x in the encoder, candidates a_c of any length in the decoder.

    The encoder runs once an example, and so do the projections of what it gives to the keys and values that the decoder
    attends to. What the decoder begins with is common to all candidates: their first tokens are read from one position,
    and only longer candidates need further ones, a row each.
    """

    has_vocabulary = True

    def scores(self, model: PreTrainedModel, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return candidate log-probabilities [N, C]; 0 for a candidate that is not there."""
        log_probs = self._token_log_probs(model, batch, batch["option_ids"])
        return (log_probs * batch["option_scored"]).sum(-1)

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return sum of log p over the right answer's tokens [N], and their number [N]."""
        rows = torch.arange(len(batch["labels"]), device=batch["labels"].device)
        scored = batch["option_scored"][rows, batch["labels"]]
        answers = batch["option_ids"][rows, batch["labels"]]
        log_probs = self._token_log_probs(model, batch, answers[:, None])[:, 0] * scored
        return log_probs.sum(-1), scored.sum(-1).to(log_probs.dtype)

    def _token_log_probs(self, model: PreTrainedModel, batch: Batch, options: Tensor) -> Tensor:
        """Return log p of every option token [N, C, O]; of padding, something finite."""
        count, candidates, width = options.shape
        source = {name: batch[name] for name in ("input_ids", "attention_mask")}
        # Made of the batch, so that an engine which repeats it knows whose rows these are.
        start = torch.cat([torch.full_like(options[:, 0, :1], token) for token in decoder_start(model)], 1)
        if candidates == 1:
            ids = torch.cat([start, options[:, 0, :-1]], 1)
            logits = model(**source, decoder_input_ids=ids, use_cache=False).logits[:, start.shape[1] - 1 :]
            return token_log_probs(logits, options[:, 0])[:, None]
        first = model(**source, decoder_input_ids=start, use_cache=width > 1)
        logits = full_precision(first.logits[:, -1])
        found = (logits.gather(1, options[..., 0]) - logits.logsumexp(-1, keepdim=True))[..., None]
        if width == 1:
            return found
        memory, seen = first.encoder_last_hidden_state, source["attention_mask"]
        first.past_key_values.batch_repeat_interleave(candidates)
        more = model(
            encoder_outputs=(memory.repeat_interleave(candidates, 0),),
            attention_mask=seen.repeat_interleave(candidates, 0),
            decoder_input_ids=options.flatten(0, 1)[:, :-1],
            past_key_values=first.past_key_values,
            use_cache=True,
        )
        rest = token_log_probs(more.logits, options.flatten(0, 1)[:, 1:])
        return torch.cat([found, rest.reshape(count, candidates, width - 1)], 2)


def decoder_start(model: PreTrainedModel) -> list[int]:
    """Return the ids that the decoder begins with: its start token, and the one that every answer begins with.

    The latter is BART's begin token; T5 has none.
    """
    config = model.generation_config
    ids = (config.decoder_start_token_id, config.forced_bos_token_id)
    return [token for token in ids if token is not None]


SCORERS.register("seq2seq")(Seq2SeqScorer())
