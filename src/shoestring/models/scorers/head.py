"""Models with a classification head: the scores are its logits, and there is no prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from shoestring.errors import ModelError
from shoestring.models.batch import Batch
from shoestring.models.scoring import SCORERS, logits_of, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HeadScorer:
    """f(x) = logits of the classification head; one output, the value itself, for regression."""

    has_vocabulary = False

    def scores(self, model: PreTrainedModel, batch: Batch, *, relative: bool = False) -> Tensor:
        """Return head logits [N, C]."""
        return logits_of(model, model_inputs(model, batch))

    def answer_log_probs(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Refuse: a head has no vocabulary.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            'a model with a classification head has no answer tokens: use method.objective="cross-entropy"'
        )


SCORERS.register("head")(HeadScorer())
