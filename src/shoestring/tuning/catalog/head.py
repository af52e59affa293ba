"""Head tuning: only what stands behind the encoder or decoder moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS, head_names
from shoestring.tuning.choosing import Choosing
from shoestring.tuning.names import tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("head")
class Head(Choosing):
    """Only the head is trained: a classifier, or a language model's output embedding and the layers before it.

    Where input and output embedding are one matrix it is the head's, and the input moves with it; `embeddings =
    "untied"` trains a copy.

    Source: princeton-nlp/MeZO large_models/run.py, option `head_tuning` (OPT, whose embeddings are tied).
    """

    kind: Literal["head"] = "head"

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the classifier, or of the output embedding and all that is outside the base model.

        Raises:
            ModelError: if the model has neither.
        """
        if found := head_names(model):
            return found
        output, prefix = model.get_output_embeddings(), f"{model.base_model_prefix}."
        outside = model.base_model is not model
        matrix = output.weight if output is not None else None
        found = {
            name
            for names, param in tensors(model)
            if param is matrix or (outside and not any(name.startswith(prefix) for name in names))
            for name in names
        }
        if not found:
            raise ModelError(f'tuning.kind="head": {type(model).__name__} has no head; try tuning.kind="layers"')
        return found
