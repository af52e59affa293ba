"""Tunings that choose among the weights a model has."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import field_validator

from shoestring.tuning.base import TuningSettings, head_names, integers
from shoestring.tuning.names import check_pattern, matching, tensors
from shoestring.tuning.preparing import Embeddings, draw_anew, set_embeddings, tied_output

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Choosing(TuningSettings):
    """Trains some of the weights that a model has, and a classification head whole, which is new."""

    embeddings: Embeddings = "as-is"
    """`untied`: the output embedding begins as a copy of the input embedding and goes its own way; `tied`: both are the
    input embedding."""
    reinit: str | None = None
    """Regular expression: weights whose names it is found in are drawn anew, as the model does when it is new."""

    _regular = field_validator("reinit")(check_pattern)

    @property
    def identity(self) -> bool:
        """Whether outputs stay: not where weights are drawn anew, nor where matrices become one that were two."""
        return self.reinit is None and self.embeddings != "tied"

    @abstractmethod
    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the weights to train, beside those of a classification head; a tied one by any name.

        Raises:
            ModelError: if the model has none of the kind.
        """

    def extend(self, model: PreTrainedModel) -> None:
        """Give the model weights that it lacks."""

    def prepare(self, model: PreTrainedModel) -> None:
        """Give the model the tensors that it is tuned with, without choosing among them."""
        set_embeddings(model, self.embeddings, str(self.model_dump()["kind"]))
        self.extend(model)

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with the chosen weights trainable; what is drawn anew is of the stream (seed, "reinit").

        Raises:
            ModelError: if there is nothing to train, or nothing to draw anew where that is asked for, or if it is kept
                in integers.
        """
        self.prepare(model)
        draw_anew(model, self.reinit, seed)
        chosen = self.chosen(model) | head_names(model)
        for names, param in tensors(model):
            wanted = not chosen.isdisjoint(names)
            if wanted and not param.is_floating_point():
                raise integers(str(self.model_dump()["kind"]), names[0])
            param.requires_grad_(wanted)
        return model.eval()

    def count(self, model: PreTrainedModel) -> int:
        """Return the number of weights to train, without changing the model."""
        if self.changes(model):
            return super().count(model)
        chosen = self.chosen(model) | head_names(model)
        return sum(param.numel() for names, param in tensors(model) if not chosen.isdisjoint(names))

    def changes(self, model: PreTrainedModel) -> bool:
        """Return whether applying changes which tensors the model has."""
        tied = tied_output(model)
        return (self.embeddings == "untied" and tied) or (self.embeddings == "tied" and not tied)

    def written(self, model: PreTrainedModel) -> set[str]:
        """Return the names of all that is to be saved: what is trained and what was drawn anew."""
        drawn = matching(model, self.reinit, "tuning.reinit") if self.reinit is not None else set()
        trained = {name for names, param in tensors(model) if param.requires_grad for name in names}
        return drawn | trained

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model: it has the architecture that it had, or that of the same with untied embeddings."""
        from shoestring.tuning.reloading import separate

        if self.embeddings == "untied":
            separate(model)
        return super().merge(model)
