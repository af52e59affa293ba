"""Which runs stand where in a table: who belongs together, and which trial counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.runs.record import Record
from shoestring.runs.words import LOSS
from shoestring.tables.grouping import METHOD, MODEL, SEED, TASK, Key, Labels, Mark
from shoestring.tables.places import Place, Trials, seed_of
from shoestring.tables.table_notes import choice_note, left_out_notes, metric_note, missing_notes, nothing_done
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import DEV


@dataclass(frozen=True)
class Layout:
    """What a table shows, and where.

    Attributes:
        by: what tells rows apart: `task`, `model`, `method` or any key of a config such as `method.lr`; by default
            task, model and method, except for what the columns tell apart.
        columns: what tells columns apart.
        metric: the metric shown, on which trials are also chosen; by default each task's main one.
        seeds: the seeds every number should rest on: others are left out; by default all that occur.
        every_trial: give each hyper-parameter setting a row of its own, instead of choosing among them on dev.
        costs: whether to add passes, seconds, memory and trained weights.
        median: show medians and ranges instead of means and deviations.
        versus: name of a row: the others show how they differ from it on the same seeds, and how likely that is.
    """

    by: tuple[Key, ...] = ()
    columns: Key = TASK
    metric: str | None = None
    seeds: tuple[int, ...] = ()
    every_trial: bool = False
    costs: bool = True
    median: bool = False
    versus: str | None = None

    @property
    def rows(self) -> tuple[Key, ...]:
        """What tells rows apart."""
        return self.by or tuple(key for key in (TASK, MODEL, METHOD) if key != self.columns)

    @property
    def tells_seeds(self) -> bool:
        """Whether each seed has a row or a column of its own."""
        return SEED in (*self.rows, self.columns)


@dataclass(frozen=True)
class Arrangement:
    """Which runs stand where in a table, and why others do not.

    Attributes:
        labels: what tells rows and columns apart.
        marks: the rows, in order.
        places: the columns of results, in order.
        trials: row and column -> seed -> the runs to choose from.
        chosen: row and column -> seed -> the run that counts there.
        notes: what a reader should know of the choice and of what is missing.
    """

    labels: Labels
    marks: tuple[Mark, ...]
    places: tuple[Place, ...]
    trials: Trials
    chosen: dict[tuple[Mark, Place], dict[int, Record]]
    notes: tuple[str, ...]

    def row(self, mark: Mark) -> list[dict[int, Record]]:
        """Return what stands in a row: for each column, seed -> run."""
        return [self.chosen.get((mark, place), {}) for place in self.places]


def arrange(records: Iterable[Record], layout: Layout | None = None) -> Arrangement:
    """Return which runs `tabulate` puts into which cell.

    Raises:
        RunFolderError: if no run has finished.
        UnknownNameError: if the layout names a key or a metric that no run has.
    """
    layout = layout or Layout()
    known, copies = distinct(records)
    wanted = [record for record in known if not layout.seeds or seed_of(record) in layout.seeds]
    done = [record for record in wanted if record.status == "ok"]
    if not done:
        raise RunFolderError(nothing_done(known, wanted, layout))
    labels = Labels.of(done, layout.rows, layout.columns, every_trial=layout.every_trial)
    trials = _trials(done, labels, layout)
    chosen = {
        place: {seed: best(group, place[1].metric) for seed, group in sorted(seeds.items())}
        for place, seeds in trials.items()
    }
    places = sorted({place for _, place in trials}, key=lambda place: place.order)
    marks = sorted({mark for mark, _ in trials}, key=lambda mark: mark.order)
    notes = [
        *choice_note(trials, labels),
        *missing_notes(trials, places, marks, _expected(wanted, layout), layout.columns),
        *left_out_notes(known, wanted, copies),
        *metric_note(done, layout.metric),
    ]
    return Arrangement(labels, tuple(marks), tuple(places), trials, chosen, tuple(notes))


def best(trials: Sequence[Record], metric: str) -> Record:
    """Return the trial best on dev by `metric`; of equals, the one of lower dev loss, then of the smaller run id.

    A trial without a dev set (`data.num_dev`) comes behind those that have one.
    """
    sign = -1.0 if _higher_is_better(metric) else 1.0

    def order(run: Record) -> tuple[bool, float, float, str]:
        numbers = run.metrics.get(DEV, {})
        return metric not in numbers, sign * numbers.get(metric, 0.0), numbers.get(LOSS, 0.0), run.run_id

    return min(trials, key=order)


def _higher_is_better(metric: str) -> bool:
    return metric != LOSS and METRICS.get(metric).higher_is_better


def distinct(records: Iterable[Record]) -> tuple[list[Record], int]:
    """Return one record a run id, a finished one before others and the latest of several; and how many that drops."""
    kept: dict[str, Record] = {}
    count = 0
    for record in sorted(records, key=lambda record: (record.status == "ok", record.finished)):
        kept[record.run_id] = record
        count += 1
    return list(kept.values()), count - len(kept)


def _trials(done: Sequence[Record], labels: Labels, layout: Layout) -> Trials:
    trials: Trials = defaultdict(lambda: defaultdict(list))
    metrics = {name for record in done for numbers in record.metrics.values() for name in numbers}
    if layout.metric is not None and layout.metric not in metrics:
        raise UnknownNameError("metric", layout.metric, metrics)
    for record in done:
        metric = layout.metric or record.main_metric
        for test, numbers in record.metrics.items():
            if test != DEV and metric in numbers:
                trials[labels.row(record), Place(labels.column(record), test, metric)][seed_of(record)].append(record)
    return trials


def _expected(wanted: Sequence[Record], layout: Layout) -> set[int]:
    """Return the seeds each number should rest on; none where the table tells seeds apart."""
    if layout.tells_seeds:
        return set()
    return {seed_of(record) for record in wanted} | {*layout.seeds}
