"""The data of every figure, in one place: the page and the files of `shoestring plot` draw the same numbers."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shoestring.report.lines import lines_of
from shoestring.report.rows import backward, labels, panel_title
from shoestring.report.series import COSTS, STEPS, Cost, Figure, Line, Panel, Point, Series, named, scale_of
from shoestring.tables.table import LOSS, Arrangement, Place, best, mean_and_spread

if TYPE_CHECKING:
    from shoestring.report.logs import Curve
    from shoestring.runs.record import Record
    from shoestring.tables.grouping import Mark

TRAIN_LOSS = "train-loss"
EXACT = ("weights", "forward-passes")
MOST_POINTS = 200
"""Points kept of a curve: a screen has no room for more."""
Curves = Callable[["Record", str], "Curve"]


def cost_figure(found: Arrangement, axis: Cost, lines: Sequence[str] = ()) -> Figure:
    """Return the test metric's mean and spread over seeds against a mean cost: a point for each cell of the table.

    Args:
        found: the cells.
        axis: the cost.
        lines: values to compare with, see `lines_of`.

    Raises:
        UnknownNameError: if a line is none.
    """

    def series(mark: Mark, place: Place) -> list[Point]:
        runs = list(found.chosen.get((mark, place), {}).values())
        point = _point(runs, place, axis)
        return [] if point is None else [point]

    return Figure(axis, _panels(found, series, lines_of(found, lines)), joined=False)


def scaling_figure(found: Arrangement, axis: Cost = COSTS["weights"], lines: Sequence[str] = ()) -> Figure:
    """Return the test metric against a cost, a line for each row of the table.

    Where a row's trials differ in the cost, every value has a point of its own; of its trials, each seed counts the
    one best on dev. That is for costs that are counted, `EXACT`: no two trials take the same seconds.

    Args:
        found: rows, and the trials behind them.
        axis: the cost.
        lines: values to compare with, see `lines_of`.

    Raises:
        UnknownNameError: if a line is none.
    """

    def series(mark: Mark, place: Place) -> list[Point]:
        groups: dict[float, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for seed, trials in found.trials.get((mark, place), {}).items():
            for run in trials:
                value = axis.of(run)
                if value is not None:
                    groups[value][seed].append(run)
        points = [
            _point([best(trials, place.metric) for trials in seeds.values()], place, axis) for seeds in groups.values()
        ]
        return [point for point in points if point is not None]

    return Figure(axis, _panels(found, series, lines_of(found, lines)), joined=True)


def thinned(steps: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """Return at most `most` of the steps, evenly chosen, the last among them.

    >>> thinned([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    every = max(1, math.ceil(len(steps) / most))
    return [step for at, step in enumerate(steps) if (len(steps) - 1 - at) % every == 0]


def over_passes(figure: Figure) -> Figure:
    """Return learning curves over forward passes, which are spread evenly over the steps."""

    def moved(series: Series) -> Series:
        rate = series.rate or 0.0
        return replace(series, points=tuple(replace(point, x=point.x * rate) for point in series.points))

    panels = tuple(
        replace(panel, series=tuple(moved(series) for series in panel.series if series.rate)) for panel in figure.panels
    )
    return replace(figure, x=replace(STEPS, name="forward-passes", title=COSTS["forward-passes"].title), panels=panels)


def _rate(runs: Iterable[Record]) -> float | None:
    """Return the forward passes of a step, in examples, mean over runs; None where no run says."""
    rates = [
        run.passes.forward_examples / steps
        for run in runs
        if run.passes is not None and isinstance(steps := run.facts.get("steps"), int) and steps > 0
    ]
    return statistics.fmean(rates) if rates else None


def has_scaling(found: Arrangement) -> bool:
    """Return whether a row has trials with different numbers of trained weights."""
    return any(
        len({run.trained_weights for trials in seeds.values() for run in trials}) > 1 for seeds in found.trials.values()
    )


def curve_figure(found: Arrangement, curves: Curves, metric: str | None = None, lines: Sequence[str] = ()) -> Figure:
    """Return learning curves of the runs that count in each cell: mean and spread over seeds at each step.

    Args:
        found: the cells.
        curves: returns what a run logged of a metric on dev, or of `train-loss`.
        metric: the metric; by default each task's main one.
        lines: values to compare with, see `lines_of`; rows are none, as theirs are those of test.

    Raises:
        UnknownNameError: if a line is none.
    """
    skipped: list[str] = []
    names = labels(found)

    def series(mark: Mark, place: Place) -> list[Point]:
        runs = found.chosen.get((mark, place), {}).values()
        known = [dict(curve) for run in runs if (curve := curves(run, metric or place.metric))]
        if not known:
            return []
        common = thinned(sorted(set.intersection(*(set(curve) for curve in known))))
        if not common:
            skipped.append(f"{names[mark]}, {place.mark.name}: the seeds have no step in common")
        return [Point(step, *mean_and_spread([curve[step] for curve in known])) for step in common]

    def drawn(place: Place) -> str:
        return LOSS if metric == TRAIN_LOSS else metric or place.metric

    def head(place: Place) -> str:
        return "loss on training batches" if metric == TRAIN_LOSS else named(drawn(place), "dev")

    # Curves are those of dev: one panel for each column, whatever the number of its test sets.
    first: dict[Mark, Place] = {}
    for place in found.places:
        first.setdefault(place.mark, place)
    against = lines_of(found, lines, drawn, rows=False)
    panels = _panels(found, series, against, _Heads(tuple(first.values()), drawn, head))
    return Figure(STEPS, panels, joined=True, notes=tuple(skipped))


@dataclass(frozen=True)
class _Heads:
    """The panels of a figure: their places, the metric of each, what stands beside it."""

    places: tuple[Place, ...]
    metric: Callable[[Place], str]
    title: Callable[[Place], str]


def _panels(
    found: Arrangement,
    points: Callable[[Mark, Place], list[Point]],
    lines: Callable[[Place], list[Line]],
    heads: _Heads | None = None,
) -> tuple[Panel, ...]:
    names = labels(found)
    heads = heads or _Heads(found.places, lambda place: place.metric, lambda place: named(place.metric, place.test))
    panels: list[Panel] = []
    for place in heads.places:
        drawn = [
            Series(
                names[mark],
                at,
                backward(found, mark),
                tuple(sorted(some, key=lambda point: point.x)),
                _rate(found.chosen.get((mark, place), {}).values()),
            )
            for at, mark in enumerate(found.marks)
            if (some := points(mark, place))
        ]
        scale = scale_of(heads.metric(place))
        panels.append(Panel(panel_title(found, place), heads.title(place), scale, tuple(drawn), tuple(lines(place))))
    return tuple(panels)


def _point(runs: Sequence[Record], place: Place, axis: Cost) -> Point | None:
    costs = [cost for run in runs if (cost := axis.of(run)) is not None]
    if not costs:
        return None
    numbers = [run.metrics[place.test][place.metric] for run in runs]
    return Point(statistics.fmean(costs), *mean_and_spread(numbers))
