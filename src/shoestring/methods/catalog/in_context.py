"""In-context learning: the model as it is, shown examples."""

from __future__ import annotations

from typing import ClassVar, Literal

from shoestring.config import Settings
from shoestring.methods.base import METHODS, Given, Outcome


@METHODS.register("in-context")
class InContext(Settings):
    """Score the candidates with the pretrained weights, beside training examples: see `prompt.demonstrations`.

    Source: Brown et al. 2020, section 2; Gao et al. 2021 (LM-BFF), section 6.1; Malladi et al. 2023 (MeZO), section 3.
    """

    trains: ClassVar[bool] = False
    needs_backward: ClassVar[bool] = False
    shows: ClassVar[bool] = True
    reads_train: ClassVar[bool] = False

    kind: Literal["in-context"] = "in-context"

    def fit(self, given: Given) -> Outcome:
        """Return the prompted model itself; its encoder shows the examples."""
        return Outcome(given.subject, seconds=0.0, facts={})
