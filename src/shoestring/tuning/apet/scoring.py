"""What a scorer is: it says of every weight, or group of weights, how much it deserves to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from shoestring.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


class Scores(Protocol):
    """The scores of a model's weights; the highest are chosen."""

    def of(self, sites: Sequence[Site], parts: int) -> Tensor:
        """Return one score for each of `parts` equal parts of a tensor, or one for several tensors as a whole."""
        ...


class Scorer(Protocol):
    """A way to score weights, and its settings, told from others by `kind`.

    Attributes:
        looks: whether it looks at training examples.
        uniform: whether every choice is as likely as any other, so that weights need not be scored to be drawn.
    """

    looks: ClassVar[bool]
    uniform: ClassVar[bool]

    @property
    def kind(self) -> str:
        """Name in the registry."""
        ...

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Scores:
        """Score the weights of `sites`; `look` is there where the scorer looks at examples."""
        ...


SCORERS: Registry[type[Any]] = Registry("scorer of weights", "shoestring.tuning.apet.scorers")
"""The scorers, one file each."""
