"""What an optimizer tells of itself: the settings it was made with, and, step by step, what happens to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol


class Observer(Protocol):
    """Is told what happens to an optimizer, in this order; see `shoestring.zeroth.trajectory`."""

    def estimating(self) -> None:
        """Hear that an estimate begins."""
        ...

    def estimated(self) -> None:
        """Hear that it has come to its end."""
        ...

    def stepping(self, answers: Sequence[float], *, skipped: bool) -> None:
        """Hear what it was answered, and whether it is skipped, before anything is moved; an error stops the step."""
        ...

    def stepped(self) -> None:
        """Hear that the step is made."""
        ...

    def finalized(self) -> None:
        """Hear that what an engine put off has been applied."""
        ...


def noting(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that notes its settings in `given`, in the outermost class only."""
    signature = inspect.signature(constructor)

    @wraps(constructor)
    def noted(self: Any, *arguments: Any, **settings: Any) -> None:
        if not hasattr(self, "given"):
            bound = signature.bind(self, *arguments, **settings).arguments
            named = {**bound, **bound.get("common", {})}
            self.given = {name: value for name, value in named.items() if name not in ("self", "params", "common")}
        constructor(self, *arguments, **settings)

    return noted
