"""Full tuning: every weight moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoestring.config import Settings
from shoestring.tuning.base import TUNINGS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("full")
class Full(Settings):
    """Every weight is trained."""

    kind: Literal["full"] = "full"

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with every weight trainable."""
        model.requires_grad_(True)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the whole model, as transformers does."""
        model.save_pretrained(folder)
