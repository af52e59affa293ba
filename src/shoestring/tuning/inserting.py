"""Tunings that put new weights into a model, whose own stay frozen."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import field_validator

from shoestring.tuning.base import TuningSettings, count_trained, head_names, integers, no_place
from shoestring.tuning.names import check_pattern, matching, tensors
from shoestring.tuning.preparing import Embeddings, set_embeddings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Inserting(TuningSettings):
    """Puts new weights into a model and trains them, and a classification head whole, which is new too."""

    embeddings: Embeddings = "as-is"
    """`untied`: the output embedding begins as a copy of the input embedding and goes its own way; `tied`: both are the
    input embedding."""
    also: str | None = None
    """Regular expression: the model's own weights whose names it is found in are trained as well."""

    _regular = field_validator("also")(check_pattern)

    @property
    def identity(self) -> bool:
        """Whether outputs stay: not where matrices become one that were two."""
        return self.embeddings != "tied"

    @abstractmethod
    def insert(self, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
        """Put the new weights in, drawn from a stream of `seed`, and return them.

        Raises:
            ModelError: if the architecture has no place for them.
        """

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with new weights in it, the only ones trained but for a classification head and `also`.

        Raises:
            ModelError: if the architecture has no place for them, or nothing matches `also`.
        """
        set_embeddings(model, self.embeddings, str(self.model_dump()["kind"]))
        own = self.own(model)
        new = {id(param) for param in self.insert(model, seed)}
        for param in model.parameters():
            param.requires_grad_(id(param) in own or id(param) in new)
        return model.eval()

    def own(self, model: PreTrainedModel) -> set[int]:
        """Return the ids of the model's own parameters that are trained."""
        names = head_names(model)
        if self.also is not None:
            names |= matching(model, self.also, "tuning.also")
        found = {aliases[0]: param for aliases, param in tensors(model) if not names.isdisjoint(aliases)}
        for name, param in found.items():
            if not param.is_floating_point():
                raise integers(str(self.model_dump()["kind"]), name)
        return {id(param) for param in found.values()}

    def trained(self, model: PreTrainedModel) -> dict[str, nn.Parameter]:
        """Return what is trained, by name."""
        return {name: param for name, param in model.named_parameters() if param.requires_grad}

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Refuse: what was put in is no weight of the architecture.

        Raises:
            ModelError: always.
        """
        raise no_place(str(self.model_dump()["kind"]), count_trained(model), model)
