"""The last or the first layers alone, or all but these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.choosing import Choosing
from shoestring.tuning.names import tensors
from shoestring.tuning.preparing import is_embedding, layers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("layers")
class Layers(Choosing):
    """The last or first n layers are trained, or frozen while the rest is trained.

    A model is taken as one column: embeddings, layers 1 to L, head with the last norm; `last` and `first` are an end of
    it with n layers, so the head goes with the last and the embeddings with the first. Embeddings that are tied to the
    output go with the first too. Of an encoder and a decoder each has its own n.

    Source: Gao et al. 2021 (LM-BFF), option `fix_layers` (`part = "first"`, `frozen = true`).
    """

    kind: Literal["layers"] = "layers"
    n: PositiveInt = 1
    """Number of layers."""
    part: Literal["last", "first"] = "last"
    """Which end."""
    frozen: bool = False
    """Freeze that end and train the rest."""

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the end, or of the rest.

        Raises:
            ModelError: if the model has no layers of their own, or fewer than n.
        """
        stacks = layers_of(model)
        shortest = min(map(len, stacks.values()))
        if self.n > shortest:
            raise ModelError(f"tuning.n={self.n}: {type(model).__name__} has {shortest} layers")
        ends = {
            f"{name}.{place}."
            for name, stack in stacks.items()
            for place in (range(len(stack))[-self.n :] if self.part == "last" else range(self.n))
        }
        inside = tuple(f"{name}." for name in stacks)
        output = model.get_output_embeddings()
        matrix = output.weight if output is not None else None
        found: set[str] = set()
        for names, param in tensors(model):
            layered = [name for name in names if name.startswith(inside)]
            if layered:
                at_end = any(name.startswith(tuple(ends)) for name in layered)
            else:
                plain = [name for name in names if is_embedding(name)]
                first = bool(plain) and not (param is matrix and len(names) == 1)
                at_end = first == (self.part == "first")
            if at_end != self.frozen:
                found.update(names)
        return found
