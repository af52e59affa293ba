"""Everything a report's page shows, as plain JSON values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shoestring._version import __version__
from shoestring.report.answers import MOST_CLASSES, Examples, confusion, has_classes
from shoestring.report.figures import (
    TRAIN_LOSS,
    cost_figure,
    curve_figure,
    has_scaling,
    scaling_figure,
)
from shoestring.report.lines import CHANCE
from shoestring.report.rows import backward, labels, panel_title
from shoestring.report.series import COSTS, Figure, Point
from shoestring.report.settings import Sheet, method_of, numbers_of, settings_of, surroundings_of
from shoestring.tables.table import LOSS, Arrangement, Place, arrange, shown, tabulate
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import DEV

if TYPE_CHECKING:
    from shoestring.report.logs import Logs
    from shoestring.runs.record import Record
    from shoestring.tables.grouping import Mark
    from shoestring.tables.table import Layout

Json = dict[str, Any]
DIGITS = 6


@dataclass(frozen=True)
class Limits:
    """How much of many runs a page holds, so that it stays usable; the page says where something is left out.

    Attributes:
        rows: rows of the table with curves, classes and answers.
        predictions: runs whose predictions are read.
        examples: hardest examples of each test set.
        runs: runs with all their settings and numbers.
    """

    rows: int = 24
    predictions: int = 400
    examples: int = 20
    runs: int = 3000


def page_data(records: Sequence[Record], logs: Logs, layout: Layout, limits: Limits | None = None) -> Json:
    """Return what the page shows. Numbers of its table are those of `tabulate`, by which nothing is computed twice.

    Raises:
        RunFolderError: if no run has finished.
        UnknownNameError: if the layout names a key or a metric that no run has.
    """
    limits = limits or Limits()
    found, table = arrange(records, layout), tabulate(records, layout)
    few = _fewer(found, limits.rows)
    notes = []
    if len(few.marks) < len(found.marks):
        notes.append(
            f"figures, classes and examples show the {len(few.marks)} of {len(found.marks)} rows that do best on dev, "
            "those in most columns first; --by, --seeds or fewer folders choose others"
        )
    numbers = [at for at, mark in enumerate(found.marks) if mark in set(few.marks)]
    classes, examples, left = _answers(few, numbers, logs, limits)
    if left:
        notes.append(f"predictions of {left} more runs were not read: classes and examples rest on the others")
    return {
        "version": __version__,
        "caption": table.caption,
        "table": {
            "columns": [{"head": column.head, "align": column.align} for column in table.columns],
            "rows": [[{"text": cell.text, "values": cell.values} for cell in row] for row in table.rows],
        },
        "names": list(labels(found).values()),
        "backward": [backward(found, mark) for mark in found.marks],
        "styles": [numbers.index(at) if at in numbers else None for at in range(len(found.marks))],
        "costs": [_figure(cost_figure(few, axis), numbers) for axis in COSTS.values()],
        "scaling": _figure(scaling_figure(few, lines=(CHANCE,)), numbers) if has_scaling(few) else None,
        "curves": list(_curves(few, numbers, logs)),
        "classes": classes,
        "examples": examples,
        "runs": _runs(records, found, logs, limits),
        "notes": [*table.notes, *notes, *logs.found.notes, *logs.problems],
    }


def _fewer(found: Arrangement, rows: int) -> Arrangement:
    """Return the rows that figures have room for: those in most columns, of these the best on dev."""

    def order(mark: Mark) -> tuple[int, float]:
        places = [place for place in found.places if (mark, place) in found.chosen]
        worth = [
            (-1 if _lower_is_better(place.metric) else 1) * run.metrics[DEV][place.metric]
            for place in places
            for run in found.chosen[mark, place].values()
            if place.metric in run.metrics.get(DEV, {})
        ]
        return len(places), statistics.fmean(worth) if worth else -math.inf

    kept = set(sorted(found.marks, key=order, reverse=True)[:rows])
    chosen = {key: value for key, value in found.chosen.items() if key[0] in kept}
    filled = {place for _, place in chosen}
    return replace(
        found,
        marks=tuple(mark for mark in found.marks if mark in kept),
        places=tuple(place for place in found.places if place in filled),
        trials={key: value for key, value in found.trials.items() if key[0] in kept},
        chosen=chosen,
    )


def _lower_is_better(metric: str) -> bool:
    return metric == LOSS or not METRICS.get(metric).higher_is_better


def _figure(figure: Figure, numbers: Sequence[int]) -> Json:
    """Return a figure as lists: points are [x, y, sd, n]; `numbers` are the rows' in the whole table."""
    return {
        "name": figure.x.name,
        "x": figure.x.title,
        "log": figure.x.log,
        "joined": figure.joined,
        "notes": figure.notes,
        "panels": [
            {
                "title": panel.title,
                "y": panel.y,
                "scale": panel.scale,
                "lines": [asdict(line) for line in panel.lines],
                "series": [
                    {
                        "row": numbers[series.style],
                        "rate": series.rate,
                        "points": [_numbers(point) for point in series.points],
                    }
                    for series in panel.series
                ],
            }
            for panel in figure.panels
        ],
    }


def _curves(found: Arrangement, numbers: Sequence[int], logs: Logs) -> Iterator[Json]:
    """Yield the curves of each task's own metric, of the loss on dev and of that in training, where there are any."""
    for name, metric in (("metric on dev", None), ("loss on dev", LOSS), ("loss in training", TRAIN_LOSS)):
        figure = curve_figure(found, logs.curve, metric)
        if any(panel.series for panel in figure.panels):
            yield _figure(figure, numbers) | {"name": name}


def _answers(
    found: Arrangement, numbers: Sequence[int], logs: Logs, limits: Limits
) -> tuple[list[Json], list[Json], int]:
    """Return classes and hardest examples of each column, and the number of runs left aside."""
    classes: list[Json] = []
    examples: list[Json] = []
    read: set[int] = set()
    left: set[int] = set()
    for place in found.places:
        task = next(_tasks(found, place))
        collected = Examples(task, task["metrics"][0])
        confusions: list[Json] = []
        for row, mark in zip(numbers, found.marks, strict=True):
            runs = found.chosen.get((mark, place), {}).values()
            taken = [run for run in runs if _may_read(run, read, left, limits.predictions)]
            rows = [[line for line in logs.predictions(run) if line["split"] == place.test] for run in taken]
            for some in rows:
                collected.add(row, some)
            counted = confusion(task, rows)
            if counted is not None:
                few = counted.counts if len(counted.counts) <= MOST_CLASSES else None
                confusions.append({"row": row, "runs": counted.runs, "classes": counted.classes, "counts": few})
        title = panel_title(found, place)
        if confusions:
            classes.append({"title": title, "labels": _labels(task), "rows": confusions})
        hardest = [asdict(hard) for hard in collected.hardest(limits.examples)]
        if hardest:
            shared = {"title": title, "kind": task.get("kind", "classification"), "labels": _labels(task)}
            examples.append({**shared, "examples": hardest})
    return classes, examples, len(left)


def _may_read(run: Record, read: set[int], left: set[int], most: int) -> bool:
    """Note a run among those that are read or among those that are left, once `most` are read."""
    fits = id(run) in read or len(read) < most
    (read if fits else left).add(id(run))
    return fits


def _tasks(found: Arrangement, place: Place) -> Iterator[Json]:
    for (_, other), picked in found.chosen.items():
        if other == place:
            yield from (run.config["task"] for run in picked.values())


def _labels(task: Json) -> list[Json]:
    if not has_classes(task):
        return []
    return [{key: str(label.get(key) or "") for key in ("name", "word", "title")} for label in task["labels"]]


def _runs(records: Sequence[Record], found: Arrangement, logs: Logs, limits: Limits) -> Json:
    """Return every run: what it is, what it gave, and its settings and surroundings where they differ."""
    shown_runs = sorted(records, key=lambda record: (record.status == "ok", _order(record)))[: limits.runs]
    counted = {id(run) for picked in found.chosen.values() for run in picked.values()}
    settings = Sheet.of([settings_of(record) for record in shown_runs])
    surroundings = Sheet.of([surroundings_of(record) for record in shown_runs])
    return {
        "total": len(records),
        "tasks": len({record.task for record in records}),
        "seeds": len({record.config["seed"] for record in records}),
        "unfinished": sum(record.status != "ok" for record in records),
        "settings": asdict(settings),
        "surroundings": asdict(surroundings),
        "runs": [
            {
                "id": record.run_id,
                "status": record.status,
                "error": record.error,
                "task": record.task,
                "seed": record.config["seed"],
                "method": method_of(record),
                "counted": id(record) in counted,
                "dev": _main(record, [DEV]),
                "test": _main(record, [name for name in record.metrics if name != DEV]),
                "numbers": numbers_of(record),
                "folder": str(logs.folder(record)),
            }
            for record in shown_runs
        ],
    }


def _order(record: Record) -> tuple[str, str, str, int]:
    config = record.config
    return record.task, str(config["method"]["kind"]), str(config["model"]["name"]), int(config["seed"])


def _main(record: Record, splits: Iterable[str]) -> str | None:
    for split in splits:
        value = record.metrics.get(split, {}).get(record.main_metric)
        if value is not None:
            return shown(record.main_metric, value)
    return None


def _numbers(point: Point) -> list[float | None]:
    return [_short(point.x), _short(point.y), _short(point.sd), point.n]


def _short(value: float | None) -> float | None:
    """Return a number with as many digits as a drawing can show."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
