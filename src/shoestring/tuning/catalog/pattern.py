"""Any weights, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from shoestring.tuning.base import TUNINGS
from shoestring.tuning.choosing import Choosing
from shoestring.tuning.names import check_pattern, matching

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("pattern")
class Pattern(Choosing):
    r"""The weights whose names a regular expression is found in are trained, such as `layer\.(10|11)\..*\.query`.

    The names are those of `model.named_parameters()`; a tied matrix answers to each of its names.
    """

    kind: Literal["pattern"] = "pattern"
    pattern: str
    """Regular expression, searched for in the names of parameters."""

    _spelled = field_validator("pattern")(check_pattern)

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names that match.

        Raises:
            ModelError: if none does; shows the nearest.
        """
        return matching(model, self.pattern, "tuning.pattern")
