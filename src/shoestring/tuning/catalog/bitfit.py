"""BitFit: only biases move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoestring.config import Settings
from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS, head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("bitfit")
class BitFit(Settings):
    """Only the biases are trained, and a classification head whole. Source: Ben Zaken et al. 2022, section 3."""

    kind: Literal["bitfit"] = "bitfit"

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with only its biases, and its classification head if it has one, trainable.

        Raises:
            ModelError: if it has none, as Llama, Qwen3, Mistral, Gemma and T5.
        """
        biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
        if not biases:
            raise ModelError(f'tuning.kind="bitfit": {type(model).__name__} has no biases; try tuning.kind="lora"')
        head = head_names(model)
        for name, param in model.named_parameters():
            param.requires_grad_(name in biases or name in head)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the whole model, as transformers does."""
        model.save_pretrained(folder)
