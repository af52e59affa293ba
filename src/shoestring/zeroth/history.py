"""Running means made again from the past estimates' seeds and coefficients, in place of stored ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from shoestring.errors import OptimizerError
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.checks import check, check_choice
from shoestring.zeroth.engines.guards import listed
from shoestring.zeroth.noise.base import Term

Moments = Literal["stored", "recompute"] | int
NEGLIGIBLE = 1e-4
"""Share of a running mean that the steps before those recomputed would have."""


class Remembering(ZerothOrder):
    """An optimizer whose running means may be made again from the past: `shared["past"]`, of tensors "past_of"."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Raises:
            OptimizerError: as any optimizer's, or if there is a past to recompute, in which they had no part.
        """
        if self.param_groups and self.shared.get("past"):  # There is none yet while the first groups are added.
            raise OptimizerError(
                f"{type(self).__name__}: parameters that come after the first step have no part in the past, of which "
                "moments are recomputed for all: add them before it, or use moments='stored'"
            )
        super().add_param_group(param_group)

    def remembered(self, terms: Sequence[Term]) -> tuple[tuple[Term, ...], ...]:
        """Add the terms of a step to the past, forget the oldest beyond its history; return all, oldest first."""
        shared = self.shared
        # A new list each time: a state_dict that was taken before holds the old one.
        shared["past"] = [*shared["past"], [list(term) for term in terms]][-shared["history"] :]
        shared["past_of"] = [tensor.name for tensor in self.engine.tensors]
        return tuple(tuple((int(seed), float(coefficient)) for seed, coefficient in step) for step in shared["past"])

    def _renew(self) -> None:
        """Make the engine anew where tensors were frozen or unfrozen; refuse those that the past is not of."""
        super()._renew()
        known = self.shared.get("past_of")  # States of earlier versions do not say.
        if not self.shared["past"] or known is None:
            return
        late = sorted({tensor.name for tensor in self.engine.tensors} - set(known))
        if late:
            raise OptimizerError(
                f"{type(self).__name__}: {listed(late)} had no part in the past, of which moments are recomputed for "
                "all that is trained: leave frozen what was frozen in a step before, or use moments='stored'"
            )


def moment_settings(optimizer: str, moments: Moments, memory: float) -> dict[str, Any]:
    """Return the settings of running means that keep a share `memory` (the largest beta) of themselves each step.

    Args:
        optimizer: its name, for messages.
        moments: "stored"; how many of the last steps are recomputed; or "recompute": as many as are not negligible.
        memory: the largest beta.

    Raises:
        OptimizerError: if it is nothing of these.
    """
    if moments == "recompute":
        moments = max(1, math.ceil(math.log(NEGLIGIBLE) / math.log(memory))) if memory else 1
    elif isinstance(moments, str):
        check_choice(optimizer, "moments", moments, ("stored", "recompute"))
        moments = 0
    else:
        check(optimizer, "moments", moments, whole=True)
    return {"history": int(moments), "past": []}
