"""Full tuning: every weight moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoestring.tuning.base import TUNINGS
from shoestring.tuning.choosing import Choosing
from shoestring.tuning.names import tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("full")
class Full(Choosing):
    """Every weight is trained."""

    kind: Literal["full"] = "full"

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return every name."""
        return {name for names, _ in tensors(model) for name in names}

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the whole model, as transformers does."""
        from shoestring.tuning.whole import save_whole

        save_whole(self, model, folder)

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Take every weight from the folder."""
        from shoestring.tuning.whole import restore_whole

        return restore_whole(self, model, folder)
