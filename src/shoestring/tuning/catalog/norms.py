"""Norm tuning: only the scales and shifts of normalisation layers move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.choosing import Choosing

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("norms")
class Norms(Choosing):
    """Only layer norms and RMS norms are trained, those of queries and keys too where a model has them.

    Source: Qi et al. 2022 (LN-tuning); every architecture has some, those without biases too.
    """

    kind: Literal["norms"] = "norms"

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the weights that modules called norms hold.

        Raises:
            ModelError: if there are none.
        """
        found = {
            f"{prefix}.{name}"
            for prefix, module in model.named_modules()
            if "norm" in type(module).__name__.lower()
            for name, _ in module.named_parameters(recurse=False)
        }
        if not found:
            raise ModelError(
                f'tuning.kind="norms": {type(model).__name__} has no norms with weights; try tuning.kind="lora"'
            )
        return found
