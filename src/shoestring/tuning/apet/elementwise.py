"""Scores of single weights, and of groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shoestring.tuning.apet.sites import Site


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


class Magnitudes(Elementwise):
    """Magnitudes of weights times `sign`, made when they are asked for."""

    def __init__(self, sign: float) -> None:
        super().__init__({})
        self._sign = sign

    def elements(self, site: Site) -> Tensor:
        """Return the score of every weight of a tensor."""
        return self._sign * site.param.detach().float().abs().view(-1)
