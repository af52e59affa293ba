"""What stands below a table: what was chosen among, what is missing, what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoestring.runs.record import Record
from shoestring.tables.commands import SHOWN, Budget, moved
from shoestring.tables.describing import FAILURES_SHOWN, describe
from shoestring.tables.grouping import METHOD, MODEL, TASK, Key, Labels, Mark, is_identity
from shoestring.tables.places import Place, Trials, heads_of, seed_of
from shoestring.tasks.spec import TEST

if TYPE_CHECKING:
    from shoestring.tables.arranging import Layout

_SPREAD = (TASK, MODEL, METHOD)


def choice_note(trials: Trials, labels: Labels) -> list[str]:
    """Say among how many trials dev chose, and what they differ in."""
    groups = [group for seeds in trials.values() for group in seeds.values()]
    counts = [len(group) for group in groups]
    if max(counts) == 1:
        return []
    many = f"up to {max(counts)}" if min(counts) < max(counts) else str(max(counts))
    tried = sorted({key for group in groups for key in _differing([labels.settings(record) for record in group])})
    # Two runs that name one folder by different paths are trials that differ in nothing.
    what = f"; tried: {', '.join(tried)}" if tried else ""
    return [f"chosen on dev for each seed, out of {many} trials{what}"]


def _differing(flat: Sequence[dict[Key, Any]]) -> list[Key]:
    keys = {key for settings in flat for key in settings if not is_identity(key)}
    return [key for key in keys if any(settings.get(key) != flat[0].get(key) for settings in flat)]


@dataclass(frozen=True)
class _Gap:
    """What a row lacks: one line, and for each cell the configs that would fill it for some seeds."""

    told: str
    cells: Sequence[Sequence[Mapping[str, Any]]]
    seeds: Iterable[int]


def missing_notes(
    trials: Trials, places: Sequence[Place], marks: Sequence[Mark], expected: set[int], columns: Key
) -> list[str]:
    """Name the seeds that cells lack and the cells that are empty, with commands that make them; the first few."""
    gaps = _few_seeds(trials, places, expected)
    if is_identity(columns) or columns in _SPREAD:
        gaps += _empty(trials, places, marks, expected, columns)
    budget, notes = Budget(), list[str]()
    for gap in gaps[:SHOWN]:
        notes.append(gap.told)
        for configs in gap.cells:
            notes += budget.spend(configs, gap.seeds)
    notes += budget.rest()
    if (more := len(gaps) - SHOWN) > 0:
        notes.append(
            f"{more} more {'line of what is missing is' if more == 1 else 'lines of what is missing are'} left out"
        )
    return notes


def _few_seeds(trials: Trials, places: Sequence[Place], expected: set[int]) -> list[_Gap]:
    lacking: dict[tuple[Mark, tuple[int, ...]], list[Place]] = defaultdict(list)
    for (mark, place), seeds in trials.items():
        if missing := tuple(sorted(expected - seeds.keys())):
            lacking[mark, missing].append(place)
    heads, gaps = heads_of(places), list[_Gap]()
    for (mark, missing), where in sorted(lacking.items(), key=lambda item: (item[0][0].order, item[0][1])):
        told = "" if len(where) == len(places) else f" in {', '.join(heads[place] for place in where)}"
        line = f"missing {'seed' if len(missing) == 1 else 'seeds'} {_listed(missing)}: {mark.name}{told}"
        cells = [[run.config for runs in trials[mark, place].values() for run in runs] for place in where]
        gaps.append(_Gap(line, cells, missing))
    return gaps


def _empty(
    trials: Trials, places: Sequence[Place], marks: Sequence[Mark], expected: set[int], columns: Key
) -> list[_Gap]:
    heads, gaps = heads_of(places), list[_Gap]()
    for mark in marks:
        where = [place for place in places if (mark, place) not in trials and place.test == TEST]
        if where:
            line = f"missing: {mark.name} in {', '.join(heads[place] for place in where)}"
            gaps.append(_Gap(line, [_moved(trials, mark, place, columns) for place in where], expected))
    return gaps


def _moved(trials: Trials, mark: Mark, place: Place, columns: Key) -> list[dict[str, Any]]:
    """Return the configs that would fill an empty cell: those of the row's fullest cell, on what the column is of."""
    rows = [seeds for (row, _), seeds in trials.items() if row == mark]
    donor = next(
        run for (_, column), seeds in trials.items() if column == place for runs in seeds.values() for run in runs
    )
    fullest = max(rows, key=lambda seeds: sum(map(len, seeds.values())))
    return [moved(run.config, donor.config, columns) for runs in fullest.values() for run in runs]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def metric_note(done: Sequence[Record], metric: str | None) -> list[str]:
    """Say how many runs lack a metric."""
    lacking = sum(not _has(record, metric) for record in done) if metric is not None else 0
    return [f"{lacking} finished {'run has' if lacking == 1 else 'runs have'} no {metric}"] if lacking else []


def _has(record: Record, metric: str) -> bool:
    return any(metric in numbers for numbers in record.metrics.values())


def left_out_notes(known: Sequence[Record], wanted: Sequence[Record], copies: int) -> list[str]:
    """Name runs that failed, seeds that nobody asked for, copies."""
    notes: list[str] = []
    failed = [record for record in wanted if record.status != "ok"]
    if failed:
        statuses = ("failed", "cancelled", "pruned")
        counts = [(status, sum(record.status == status for record in failed)) for status in statuses]
        many = " and ".join(f"{count} {status}" for status, count in counts if count)
        one = len(failed) == 1
        notes.append(f"{many} {'run is' if one else 'runs are'} not in the table:")
        notes += [f"  {describe(record)}" for record in failed[:FAILURES_SHOWN]]
        if len(failed) > FAILURES_SHOWN:
            notes.append(f"  and {len(failed) - FAILURES_SHOWN} more")
    if others := sorted({seed_of(record) for record in known} - {seed_of(record) for record in wanted}):
        notes.append(f"left out, not being among the seeds asked for: {', '.join(map(str, others))}")
    if copies:
        notes.append(f"{copies} further {'copy' if copies == 1 else 'copies'} of runs, in other folders, not counted")
    return notes


def nothing_done(known: Sequence[Record], wanted: Sequence[Record], layout: Layout) -> str:
    """Say why there is no finished run."""
    if not known:
        return "there is no finished run to make a table of"
    if not wanted:
        there = ", ".join(map(str, sorted({seed_of(record) for record in known})))
        return f"no run has one of the seeds {', '.join(map(str, layout.seeds))}; there are: {there}"
    lines = "\n".join(f"  {describe(record)}" for record in wanted[:FAILURES_SHOWN])
    return f"there is no finished run to make a table of; the others:\n{lines}"
