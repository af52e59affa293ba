"""Prompt tuning: trained vectors before the embeddings of the input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from shoestring.tuning.base import TUNINGS, head_names
from shoestring.tuning.catalog.prefix import check_tokens
from shoestring.tuning.inserting import Inserting
from shoestring.tuning.preparing import embedding_shape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@TUNINGS.register("prompt-tuning")
class PromptTuning(Inserting):
    """m trained vectors, a soft prompt, stand before the embeddings of the input.

    By default they begin as the embeddings of m real tokens, which is the same as these tokens standing before the
    input, in causal models and in masked ones, where the prompt stands before the first special token. In models with
    an encoder and a decoder the encoder reads it.

    Of language models that write, what is saved is in peft's format, and peft loads it. peft has no prompts for masked
    models, and reads a classifier's answer from the prompt where that is at the first place.

    Source: Lester et al. 2021, section 2.
    """

    kind: Literal["prompt-tuning"] = "prompt-tuning"
    length: PositiveInt = 20
    """Number m of vectors."""
    init: Literal["tokens", "normal"] = "tokens"
    """Embeddings of real tokens, or normal numbers."""
    tokens: tuple[NonNegativeInt, ...] | None = None
    """Ids of the m real tokens; by default drawn from the vocabulary."""

    @property
    def identity(self) -> bool:
        """Nothing is promised: outputs are those behind a prompt."""
        return False

    def insert(self, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
        """Put the prompt in; tokens or numbers are of the stream (seed, "prompt-tuning").

        Raises:
            ModelError: if a token is not in the vocabulary, the model takes no embeddings, or no position is left.
        """
        from shoestring.seeds import derive, torch_seeded
        from shoestring.tuning.prefixes import drawn_tokens
        from shoestring.tuning.prompts import embeddings_of, insert_prompt

        stream = derive(seed, "prompt-tuning")
        embedding = embeddings_of(model, drawn_tokens(model, self.tokens, self.length, stream))
        if self.init == "normal":
            with torch_seeded(stream):
                embedding.normal_()
        return [insert_prompt(model, embedding).embedding]

    def count(self, model: PreTrainedModel) -> int:
        """Return m times the size of an embedding, and the model's own that are trained too."""
        own = self.own(model)
        size = embedding_shape(model)[1]
        return self.length * size + sum(param.numel() for param in model.parameters() if id(param) in own)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the vectors: in peft's format where peft has such prompts."""
        if peft_knows(model) and len(self.trained(model)) == 1:
            from shoestring.tuning.prompt_files import save_prompt

            save_prompt(self, model, folder)
        else:
            super().save(model, folder)

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Put the saved vectors in."""
        if (folder / "adapter_config.json").is_file():
            from shoestring.tuning.prompt_files import restore_prompt

            return restore_prompt(self, model, folder)
        return super().restore(model, folder)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tokens(self.tokens, self.init, self.length)
        return self


def peft_knows(model: PreTrainedModel) -> bool:
    """Return whether peft has prompts for a model: for language models that write."""
    return not head_names(model) and model.can_generate()
