"""What a scorer is: it says of every weight, or group of weights, how much it deserves to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from shoestring.registry import Registry
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


class Elementwise:
    """Scores of single weights; that of a group is the mean over its weights, for its price is their number."""

    def __init__(self, elements: Mapping[str, Tensor]) -> None:
        self._elements = elements

    def of(self, sites: Sequence[Site], parts: int) -> Tensor:
        """Return the means over `parts` equal parts of one tensor, or over all weights of several."""
        if len(sites) == 1:
            scores = self.elements(sites[0])
            return scores.view(parts, -1).mean(1) if parts < scores.numel() else scores.view(-1)
        sums = [self.elements(site).sum(dtype=torch.float64) for site in sites]
        return (torch.stack(sums).sum() / sum(site.size for site in sites)).view(1)

    def elements(self, site: Site) -> Tensor:
        """Return the score of every weight of a tensor."""
        return self._elements[site.name]


SCORERS: Registry[type[Any]] = Registry("scorer of weights", "shoestring.tuning.apet.scorers")
"""The scorers, one file each."""
