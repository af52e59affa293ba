"""What a tuning is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shoestring.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Tuning(Protocol):
    """Chooses which weights of a model are trained, adding new ones where it needs to."""

    @property
    def kind(self) -> str:
        """Name in the registry."""
        ...

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with `requires_grad` set on exactly the trained weights; outputs are unchanged at first."""
        ...

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write what was tuned so that transformers, or peft where adapters were added, loads it."""
        ...


# Names that transformers' classes give to their classification heads, and to the dense layer some put before it.
_HEADS = ("classifier", "pre_classifier", "score", "classification_head")


def head_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters of a classification head; none for a language model.

    A head has no pretrained weights to start from, so every tuning trains it whole.
    """
    if "SequenceClassification" not in type(model).__name__:
        return set()
    return {name for name, _ in model.named_parameters() if name.split(".")[0] in _HEADS}


TUNINGS: Registry[type[Any]] = Registry("tuning", "shoestring.tuning.catalog")
