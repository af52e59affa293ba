"""Which weights a budget buys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shoestring.errors import ModelError
from shoestring.seeds import numpy_stream
from shoestring.tuning.apet.scoring import Scorer, Scores
from shoestring.tuning.apet.sites import Site
from shoestring.tuning.look import Look

Granularity = Literal["element", "row", "tensor", "module"]
Choice = dict[str, Tensor | None]
"""By the name of a tensor: the chosen positions in it, ascending (int64, of the flattened tensor); None: all of it."""


@dataclass(frozen=True)
class Chooser:
    """How weights are chosen: in what portions, by what scores, from which stream."""

    granularity: Granularity
    scorer: Scorer
    seed: int
    look: Look | None = None

    def choose(self, sites: Sequence[Site], budget: int) -> Choice:
        """Return the weights that `budget` buys among `sites`.

        Single weights are bought to the last one: those of the highest scores, ties in order of place. Rows, tensors
        and modules are gone through from the highest score to the lowest, and each is taken that the rest of the
        budget can pay, so that never more than the budget is chosen, and a budget can be left with less than every
        remaining portion costs.

        Raises:
            ModelError: if there are fewer weights than that, or it buys not one portion.
        """
        total = sum(site.size for site in sites)
        if budget > total:
            raise ModelError(
                f"tuning.budget={budget:,} is more than the {total:,} weights that there are to choose from; "
                'a smaller budget, a wider tuning.scope, or kind="full" for all of them'
            )
        if budget == 0:
            return {}
        if budget == total:
            return {site.name: None for site in sites}
        if self.granularity != "element":
            return self._portions(sites, budget)
        if self.scorer.uniform:
            stream = numpy_stream(self.seed, "apet", "elements")
            return _placed(sites, np.sort(stream.choice(total, budget, replace=False, shuffle=False)))
        return _best(sites, self.scorer.scores(sites, self.seed, self.look), budget)

    def _portions(self, sites: Sequence[Site], budget: int) -> Choice:
        portions = list(_PORTIONS[self.granularity](sites))
        scores = self.scorer.scores(sites, self.seed, self.look)
        ranks = torch.cat([scores.of(one.sites, one.parts).double().cpu() for one in portions])
        ranks = ranks.nan_to_num(nan=-torch.inf)
        first = [0, *accumulate(one.parts for one in portions)]
        smallest, left = min(portions, key=lambda one: one.price), budget
        taken: dict[int, list[int]] = {}
        for place in ranks.argsort(descending=True, stable=True).tolist():
            if left < smallest.price:
                break
            number = int(np.searchsorted(first, place, side="right")) - 1
            if portions[number].price <= left:
                left -= portions[number].price
                taken.setdefault(number, []).append(place - first[number])
        if not taken:
            raise ModelError(
                f"tuning.budget={budget:,} buys no {self.granularity}: the smallest, {smallest.name}, has "
                f'{smallest.price:,} weights; granularity="element" meets every budget'
            )
        return {name: found for number, parts in sorted(taken.items()) for name, found in portions[number].buy(parts)}


@dataclass(frozen=True)
class Portions:
    """Equal portions of one tensor, or several tensors that are one portion."""

    name: str
    sites: tuple[Site, ...]
    parts: int
    price: int

    def buy(self, parts: Sequence[int]) -> Iterator[tuple[str, Tensor | None]]:
        """Yield the chosen positions of each tensor, given the numbers of the portions."""
        for site in self.sites:
            if len(parts) == self.parts:
                yield site.name, None
            else:
                rows = torch.tensor(sorted(parts))
                yield site.name, (rows[:, None] * self.price + torch.arange(self.price)).view(-1)


def size_of(choice: Choice, sites: Sequence[Site]) -> int:
    """Return the number of weights in a choice."""
    sizes = {site.name: site.size for site in sites}
    return sum(sizes[name] if places is None else len(places) for name, places in choice.items())


def _rows(sites: Sequence[Site]) -> Iterator[Portions]:
    return (Portions(site.name, (site,), site.rows, site.size // site.rows) for site in sites)


def _tensors(sites: Sequence[Site]) -> Iterator[Portions]:
    return (Portions(site.name, (site,), 1, site.size) for site in sites)


def _modules(sites: Sequence[Site]) -> Iterator[Portions]:
    """Yield the tensors of each module as one portion; tied ones are of the first module that has them."""
    groups: dict[int, list[Site]] = {}
    for site in sites:
        groups.setdefault(id(site.owners[0][0]), []).append(site)
    for group in groups.values():
        name = group[0].name.rpartition(".")[0] or "the model itself"
        yield Portions(name, tuple(group), 1, sum(site.size for site in group))


_PORTIONS = {"row": _rows, "tensor": _tensors, "module": _modules}


def _placed(sites: Sequence[Site], places: np.ndarray) -> Choice:
    """Return positions in all tensors laid end to end, ascending, as positions in each."""
    choice: Choice = {}
    start = 0
    for site in sites:
        low, high = np.searchsorted(places, (start, start + site.size))
        if high > low:
            choice[site.name] = None if high - low == site.size else torch.from_numpy(places[low:high] - start)
        start += site.size
    return choice


def _best(sites: Sequence[Site], scores: Scores, budget: int) -> Choice:
    """Return the weights of the highest scores; twice over the tensors, one at a time: for the bar, and those above."""

    def of(site: Site) -> Tensor:
        return scores.of([site], site.size).nan_to_num(nan=-torch.inf)

    highest = torch.empty(0)
    for site in sites:
        found = of(site).topk(min(budget, site.size)).values.cpu()
        highest = torch.cat([highest.to(found.dtype), found])
        highest = highest.topk(min(budget, len(highest))).values
    bar = highest[-1]
    equal = budget - int((highest > bar).sum())
    choice: Choice = {}
    for site in sites:
        found = of(site).cpu()
        places = (found > bar).nonzero().view(-1)
        if equal:
            ties = (found == bar).nonzero().view(-1)[:equal]
            equal -= len(ties)
            places = torch.cat([places, ties]).sort().values
        if len(places):
            choice[site.name] = None if len(places) == site.size else places
    return choice
