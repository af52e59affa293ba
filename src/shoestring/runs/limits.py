"""Limits on dev: a run that stays below them is not made to its end."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoestring.errors import PrunedError
from shoestring.runs.record import METRICS

# Settings that must have reached a step before their median says anything.
_FEWEST = 3


@dataclass(frozen=True)
class Limits:
    """What a run must have reached on dev by some steps.

    Attributes:
        metric: by which it is measured.
        higher: whether higher is better.
        at: step -> the median of what `count` earlier settings had there.
        count: how many they were.
    """

    metric: str
    higher: bool
    at: Mapping[int, float]
    count: int

    def watch(self, known: Mapping[int, float] | None = None) -> Callable[[dict[str, Any]], None]:
        """Return what hears the lines of a run's log, and raises PrunedError where its best so far is below a limit.

        Args:
            known: step -> what an interrupted attempt logged: of a run that goes on, what lies before counts too.
        """
        reached_at = dict(known or {})

        def hear(line: dict[str, Any]) -> None:
            value = line.get(f"eval_{self.metric}")
            if not isinstance(value, int | float):
                return
            step = int(line["step"])
            reached_at[step] = value
            best = [other for at, other in reached_at.items() if at <= step]
            reached, limit = max(best) if self.higher else min(best), self.at.get(step)
            if limit is not None and (reached < limit if self.higher else reached > limit):
                raise PrunedError(
                    f"pruned at step {step}: the best {self.metric} on dev so far is {reached:.4g}, worse than "
                    f"{limit:.4g}, the median of {self.count} earlier settings there"
                )

        return hear


def limits_of(metric: str, *, higher: bool, earlier: Sequence[Mapping[int, float]]) -> Limits | None:
    """Return the limits that earlier runs set: at each step that three of them reached, the median of their values.

    Source: Golovin et al. 2017, Google Vizier, section 3.5 (median stopping), with the values at the step itself, as
        Optuna's MedianPruner has it.
    """
    steps = sorted({step for values in earlier for step in values})
    at = {step: [values[step] for values in earlier if step in values] for step in steps}
    medians = {step: statistics.median(values) for step, values in at.items() if len(values) >= _FEWEST}
    return Limits(metric, higher, medians, len(earlier)) if medians else None


def dev_values(folder: Path, metric: str) -> dict[int, float]:
    """Return step -> metric on dev, of all that a run logged."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found: dict[int, float] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:  # Torn by a kill.
            continue
        if isinstance(value := line.get(f"eval_{metric}"), int | float):
            found[int(line["step"])] = float(value)
    return found
