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


TUNINGS: Registry[type[Any]] = Registry("tuning", "shoestring.tuning.catalog")
