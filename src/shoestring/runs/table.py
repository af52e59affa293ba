"""Tables over runs: who belongs together, which trial counts, mean (sd, n) over seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.runs.describing import FAILURES_SHOWN, describe
from shoestring.runs.grouping import METHOD, MODEL, NOTHING, SEED, TASK, Key, Labels, Mark, Order, flatten, is_identity
from shoestring.runs.record import Record
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import DEV, TEST

LOSS = "loss"
MIB = 1 << 20
Value = str | int | float | None


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
    """

    by: tuple[Key, ...] = ()
    columns: Key = TASK
    metric: str | None = None
    seeds: tuple[int, ...] = ()
    every_trial: bool = False
    costs: bool = True

    @property
    def rows(self) -> tuple[Key, ...]:
        """What tells rows apart."""
        return self.by or tuple(key for key in (TASK, MODEL, METHOD) if key != self.columns)

    @property
    def tells_seeds(self) -> bool:
        """Whether each seed has a row or a column of its own."""
        return SEED in (*self.rows, self.columns)


@dataclass(frozen=True)
class Column:
    """A column; `csv` names what its cells' `values` are."""

    head: str
    align: Literal["left", "right"]
    csv: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """What people read, and the numbers behind it."""

    text: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class TableData:
    """A table, ready for any format."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A column of results: what the layout spreads over columns, the test set, the metric."""

    mark: Mark
    test: str
    metric: str

    @property
    def order(self) -> Order:
        """Its place among the others."""
        return (self.mark.order, self.test != TEST, self.test, self.metric)

    def head(self, *, metric: bool) -> str:
        """What heads the column, with the metric's name or without."""
        words = (self.mark.name, "" if self.test == TEST else self.test, title(self.metric) if metric else "")
        return " ".join(word for word in words if word)


# A row and column -> seed -> the trials there.
Trials = dict[tuple[Mark, Place], dict[int, list[Record]]]


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


def tabulate(records: Iterable[Record], layout: Layout | None = None) -> TableData:
    """Return the table of finished runs: in each cell, the test metric's mean (sd, n) over seeds.

    Runs share a cell if they agree in task, data, model, prompt, kind of tuning, kind of method and objective. Of those
    that differ only in other settings of method and tuning, each seed counts the one best on dev (of equals, the one of
    lower dev loss); the test set has no say in it. sd is the population standard deviation, sqrt(mean((x - mean)^2)),
    as in the published tables.

    Raises:
        RunFolderError: if no run has finished.
        UnknownNameError: if the layout names a key or a metric that no run has.
    """
    layout = layout or Layout()
    found = arrange(records, layout)
    columns = [*(Column(head, "left", (head,)) for head in found.labels.heads), *_result_columns(found.places)]
    rows: list[tuple[Cell, ...]] = []
    for mark in found.marks:
        results = found.row(mark)
        cells = [*(Cell(text, (text,)) for text in mark.texts)]
        cells += [_result(picked, place, layout) for picked, place in zip(results, found.places, strict=True)]
        rows.append((*cells, *(_costs(results) if layout.costs else ())))
    return TableData(
        (*columns, *(_COST_COLUMNS if layout.costs else ())),
        tuple(rows),
        _caption(found.places, layout),
        (*((_COSTS,) if layout.costs else ()), *found.notes),
    )


def arrange(records: Iterable[Record], layout: Layout | None = None) -> Arrangement:
    """Return which runs `tabulate` puts into which cell.

    Raises:
        RunFolderError: if no run has finished.
        UnknownNameError: if the layout names a key or a metric that no run has.
    """
    layout = layout or Layout()
    known, copies = _distinct(records)
    wanted = [record for record in known if not layout.seeds or _seed(record) in layout.seeds]
    done = [record for record in wanted if record.status == "ok"]
    if not done:
        raise RunFolderError(_nothing_done(known, wanted, layout))
    labels = Labels.of(done, layout.rows, layout.columns, every_trial=layout.every_trial)
    trials = _trials(done, labels, layout)
    chosen = {
        place: {seed: best(group, place[1].metric) for seed, group in sorted(seeds.items())}
        for place, seeds in trials.items()
    }
    places = sorted({place for _, place in trials}, key=lambda place: place.order)
    notes = [
        *_choice_note(trials),
        *_missing_notes(chosen, places, _expected(wanted, layout)),
        *_left_out_notes(known, wanted, copies),
        *_metric_note(done, layout),
    ]
    marks = sorted({mark for mark, _ in trials}, key=lambda mark: mark.order)
    return Arrangement(labels, tuple(marks), tuple(places), trials, chosen, tuple(notes))


def mean_and_spread(numbers: Sequence[float]) -> tuple[float, float | None, int]:
    """Return mean, population standard deviation and number; one number has no spread to speak of."""
    return statistics.fmean(numbers), statistics.pstdev(numbers) if len(numbers) > 1 else None, len(numbers)


def best(trials: Sequence[Record], metric: str) -> Record:
    """Return the trial best on dev by `metric`; of equals, the one of lower dev loss, then of the smaller run id.

    A trial without a dev set (`data.num_dev`) comes behind those that have one.
    """
    sign = -1.0 if _higher_is_better(metric) else 1.0

    def order(run: Record) -> tuple[bool, float, float, str]:
        numbers = run.metrics.get(DEV, {})
        return metric not in numbers, sign * numbers.get(metric, 0.0), numbers.get(LOSS, 0.0), run.run_id

    return min(trials, key=order)


def shown(metric: str, value: float) -> str:
    """Return a metric's value as tables print it: times 100, one decimal; a loss as it is, three decimals."""
    return f"{value:.3f}" if metric == LOSS else f"{100 * value:.1f}"


def title(metric: str) -> str:
    """Return how tables call a metric."""
    return LOSS if metric == LOSS else METRICS.get(metric).title


def _higher_is_better(metric: str) -> bool:
    return metric != LOSS and METRICS.get(metric).higher_is_better


def _seed(record: Record) -> int:
    return int(record.config["seed"])


def _distinct(records: Iterable[Record]) -> tuple[list[Record], int]:
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
                trials[labels.row(record), Place(labels.column(record), test, metric)][_seed(record)].append(record)
    return trials


def _heads(places: Sequence[Place]) -> dict[Place, str]:
    several = len({place.metric for place in places}) > 1
    return {place: place.head(metric=several) for place in places}


def _result_columns(places: Sequence[Place]) -> list[Column]:
    return [
        Column(head, "right", tuple(f"{place.head(metric=True)} {part}" for part in ("mean", "sd", "n")))
        for place, head in _heads(places).items()
    ]


def _result(picked: dict[int, Record], place: Place, layout: Layout) -> Cell:
    if not picked:
        return Cell(NOTHING, (None, None, 0))
    numbers = [record.metrics[place.test][place.metric] for record in picked.values()]
    mean, spread, count = mean_and_spread(numbers)
    if spread is None:  # 0.0 would claim that there is none.
        alone = "" if layout.tells_seeds else f" ({NOTHING}, 1)"
        return Cell(shown(place.metric, mean) + alone, (mean, None, 1))
    return Cell(f"{shown(place.metric, mean)} ({shown(place.metric, spread)}, {count})", (mean, spread, count))


_COST_COLUMNS = (
    Column("forward passes", "right", ("forward passes",)),
    Column("backward passes", "right", ("backward passes",)),
    Column("seconds", "right", ("seconds",)),
    Column("peak MiB", "right", ("peak bytes above the weights",)),
    Column("trained weights", "right", ("trained weights",)),
)
_COSTS = (
    "costs are means over the row's runs; seconds are wall time of fitting, with its evaluations on dev; passes (in "
    "batches) leave those out; "
    "peak MiB is memory above the weights while fitting (while predicting, where nothing is fitted)"
)


def _costs(results: Sequence[dict[int, Record]]) -> list[Cell]:
    runs = list({record.run_id: record for picked in results for record in picked.values()}.values())
    passes = [run.passes for run in runs if run.passes is not None]
    memory = [run.memory.peak for run in runs if run.memory is not None]
    return [
        _cost([count.forward for count in passes], "{:,.0f}"),
        _cost([count.backward for count in passes], "{:,.0f}"),
        _cost([run.seconds["fit"] for run in runs if "fit" in run.seconds], "{:,.1f}"),
        _cost(memory, "{:,.1f}", unit=MIB),
        _weights([trained_weights(run) for run in runs if run.weights is not None]),
    ]


def trained_weights(record: Record) -> int:
    """Return the number of weights the method changed: none of them in a run whose method made no pass to fit."""
    idle = record.passes is not None and record.passes.forward == 0 and record.passes.backward == 0
    return 0 if idle or record.weights is None else record.weights.trained


def _weights(counts: Sequence[int]) -> Cell:
    cell = _cost(counts, "{:,.0f}")
    millions = statistics.fmean(counts) / 1e6 if counts else 0
    return Cell(f"{millions:,.1f}M", cell.values) if millions >= 1 else cell


def _cost(numbers: Sequence[float], shape: str, unit: int = 1) -> Cell:
    if not numbers:
        return Cell(NOTHING, (None,))
    mean = statistics.fmean(numbers)
    return Cell(shape.format(mean / unit), (int(mean) if mean == int(mean) else mean,))


def _caption(places: Sequence[Place], layout: Layout) -> str:
    metrics = sorted({place.metric for place in places})
    what = title(metrics[0]) if len(metrics) == 1 else "the metric named"
    scale = "" if metrics == [LOSS] else " x 100" if LOSS not in metrics else " x 100 (losses as they are)"
    spread = "" if layout.tells_seeds else ": mean (population standard deviation, number of seeds)"
    return f"{what}{scale} on test{spread}"


def _choice_note(trials: Trials) -> list[str]:
    groups = [group for seeds in trials.values() for group in seeds.values()]
    counts = [len(group) for group in groups]
    if max(counts) == 1:
        return []
    many = f"up to {max(counts)}" if min(counts) < max(counts) else str(max(counts))
    tried = sorted({key for group in groups for key in _differing(group)})
    return [f"chosen on dev for each seed, out of {many} trials; tried: {', '.join(tried)}"]


def _differing(group: Sequence[Record]) -> list[Key]:
    flat = [flatten(record) for record in group]
    keys = {key for settings in flat for key in settings if not is_identity(key)}
    return [key for key in keys if any(settings.get(key) != flat[0].get(key) for settings in flat)]


def _expected(wanted: Sequence[Record], layout: Layout) -> set[int]:
    """Return the seeds each number should rest on; none where the table tells seeds apart."""
    if layout.tells_seeds:
        return set()
    return {_seed(record) for record in wanted} | {*layout.seeds}


def _missing_notes(
    chosen: dict[tuple[Mark, Place], dict[int, Record]], places: Sequence[Place], expected: set[int]
) -> list[str]:
    lacking: dict[tuple[Mark, tuple[int, ...]], list[Place]] = defaultdict(list)
    for (mark, place), picked in chosen.items():
        if missing := tuple(sorted(expected - picked.keys())):
            lacking[mark, missing].append(place)
    heads = _heads(places)
    notes: list[str] = []
    for (mark, missing), where in sorted(lacking.items(), key=lambda item: (item[0][0].order, item[0][1])):
        columns = "" if len(where) == len(places) else f" in {', '.join(heads[place] for place in where)}"
        seeds = ", ".join(map(str, missing))
        notes.append(f"missing {'seed' if len(missing) == 1 else 'seeds'} {seeds}: {mark.name}{columns}")
    return notes


def _metric_note(done: Sequence[Record], layout: Layout) -> list[str]:
    lacking = sum(not _has(record, layout.metric) for record in done) if layout.metric is not None else 0
    return [f"{lacking} finished {'run has' if lacking == 1 else 'runs have'} no {layout.metric}"] if lacking else []


def _has(record: Record, metric: str) -> bool:
    return any(metric in numbers for numbers in record.metrics.values())


def _left_out_notes(known: Sequence[Record], wanted: Sequence[Record], copies: int) -> list[str]:
    notes: list[str] = []
    failed = [record for record in wanted if record.status != "ok"]
    if failed:
        counts = [(status, sum(record.status == status for record in failed)) for status in ("failed", "cancelled")]
        many = " and ".join(f"{count} {status}" for status, count in counts if count)
        one = len(failed) == 1
        notes.append(f"{many} {'run is' if one else 'runs are'} not in the table:")
        notes += [f"  {describe(record)}" for record in failed[:FAILURES_SHOWN]]
        if len(failed) > FAILURES_SHOWN:
            notes.append(f"  and {len(failed) - FAILURES_SHOWN} more")
    if others := sorted({_seed(record) for record in known} - {_seed(record) for record in wanted}):
        notes.append(f"left out, not being among the seeds asked for: {', '.join(map(str, others))}")
    if copies:
        notes.append(f"{copies} further {'copy' if copies == 1 else 'copies'} of runs, in other folders, not counted")
    return notes


def _nothing_done(known: Sequence[Record], wanted: Sequence[Record], layout: Layout) -> str:
    if not known:
        return "there is no finished run to make a table of"
    if not wanted:
        there = ", ".join(map(str, sorted({_seed(record) for record in known})))
        return f"no run has one of the seeds {', '.join(map(str, layout.seeds))}; there are: {there}"
    lines = "\n".join(f"  {describe(record)}" for record in wanted[:FAILURES_SHOWN])
    return f"there is no finished run to make a table of; the others:\n{lines}"
