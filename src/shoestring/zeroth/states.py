"""What a saved state must have in common with the optimizer that goes on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shoestring.errors import OptimizerError

Groups = Sequence[Mapping[str, Any]]
_SAME = ("directions", "rounding")


def check_state(optimizer: str, own: Iterable[str], saved: Groups, here: Groups) -> None:
    """Check the parameter groups of a saved state, the first of which carries what is one per optimizer.

    Raises:
        OptimizerError: if they are another optimizer's, or of one with other directions, other rounding, or without
            the names that directions are made from here.
    """
    maker = saved[0].get("optimizer", optimizer)  # States of earlier versions do not say.
    if maker != optimizer:
        raise OptimizerError(f"{optimizer}: the state was saved by {maker}: make that to go on")
    missing = ", ".join(sorted(name for name in own if name not in saved[0] and name != "optimizer"))
    if missing:
        raise OptimizerError(f"{optimizer}: the state has no {missing}: it is another optimizer's")
    for name in _SAME:
        before, now = saved[0][name], here[0][name]
        if before != now:
            raise OptimizerError(
                f"{optimizer}: the state was saved with {name}={before!r}, and this optimizer has {name}={now!r}: make "
                "it with the same to go on"
            )
    if any("param_names" in group for group in here) and not any("param_names" in group for group in saved):
        raise OptimizerError(
            f"{optimizer}: the state was saved of parameters without names, which directions depend on: make it with "
            "model.parameters() to go on"
        )
