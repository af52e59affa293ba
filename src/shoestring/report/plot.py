"""From folders of runs to the figure that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.report.figures import (
    EXACT,
    TRAIN_LOSS,
    cost_figure,
    curve_figure,
    over_passes,
    scaling_figure,
)
from shoestring.report.logs import Logs
from shoestring.report.refusing import noted
from shoestring.report.rows import metrics_of
from shoestring.report.series import AXES, COSTS, STEPS, Figure
from shoestring.runs.collect import read_records
from shoestring.tables.table import Arrangement, Layout, arrange

Kind = Literal["points", "lines", "curves"]
KINDS: tuple[Kind, ...] = ("points", "lines", "curves")
FORWARD = "forward-passes"


def figure_of(
    runs: Iterable[Path],
    x: str,
    y: str | None = None,
    *,
    kind: Kind | None = None,
    layout: Layout | None = None,
    lines: Sequence[str] = (),
) -> Figure:
    """Return a figure of the runs in these folders; its notes name those that could not be read, or have not ended.

    Args:
        runs: folders of runs, or run folders.
        x: one of `AXES`.
        y: a metric; by default each task's main one. Of curves also `train-loss`.
        kind: `points`, one for each cell of the table; `lines`, one for each row, with a point for each value of x;
            `curves`, metrics on dev while training. By default curves over steps, points over anything else.
        layout: which rows there are.
        lines: values to compare with, see `report.lines.lines_of`.

    Raises:
        RunFolderError: if there are no runs, none has finished, or there is nothing to draw.
        UnknownNameError: if x, y, a key of the layout or a line is none.
    """
    if x not in AXES:
        raise UnknownNameError("axis", x, AXES)
    kind = kind or ("curves" if x == STEPS.name else "points")
    allowed = {"points": tuple(COSTS), "lines": EXACT, "curves": (STEPS.name, FORWARD)}[kind]
    if x not in allowed:
        raise UnknownNameError(f"axis of {kind}", x, allowed)
    logs = Logs(read_records(runs))
    with noted(logs.found.notes):
        whole = arrange(logs.found.records, replace(layout or Layout(), metric=None))
        _known(whole, y, train=kind == "curves")
        found = whole if kind == "curves" else arrange(logs.found.records, replace(layout or Layout(), metric=y))
        figure = _made(found, logs, x, y, kind, lines)
    if not any(panel.series for panel in figure.panels):
        raise RunFolderError(_nothing(kind, x, y))
    return replace(figure, notes=(*figure.notes, *logs.found.notes))


def _known(found: Arrangement, y: str | None, *, train: bool) -> None:
    known = (*metrics_of(found), *((TRAIN_LOSS,) if train else ()))
    if y is not None and y not in known:
        raise UnknownNameError("metric", y, known)


def _made(found: Arrangement, logs: Logs, x: str, y: str | None, kind: Kind, lines: Sequence[str]) -> Figure:
    if kind == "curves":
        figure = curve_figure(found, logs.curve, y, lines)
        return over_passes(figure) if x == FORWARD else figure
    if kind == "lines":
        return scaling_figure(found, COSTS[x], lines)
    return cost_figure(found, COSTS[x], lines)


def _nothing(kind: Kind, x: str, y: str | None) -> str:
    if kind == "curves":
        return (
            f"no run that counts logged {y or 'its metric'} on dev while it trained; "
            "curves need runs with steps and evaluations (method.eval_every)"
        )
    return f"no run that counts says what it cost in {x}"
