"""What differs between two runs, or two groups of runs: settings, results, answers one by one."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoestring.data.json_text import parsed
from shoestring.data.place import Place
from shoestring.errors import DataError, RunFolderError
from shoestring.runs.record import PREDICTIONS, Record
from shoestring.tables.arranging import best
from shoestring.tables.grouping import Key, flatten, is_identity, natural
from shoestring.tables.one_folder import names_of_models
from shoestring.tables.places import seed_of
from shoestring.tables.selecting import Selected
from shoestring.tables.significance import Paired, paired
from shoestring.tasks.spec import DEV

SHOWN = 5
Cell = tuple[str, str, str]
"""Task, split, metric."""


@dataclass(frozen=True)
class Difference:
    """A key and what both sides have there: one value each, or several."""

    key: Key
    a: tuple[Any, ...]
    b: tuple[Any, ...]


@dataclass(frozen=True)
class Result:
    """One number of both sides.

    Attributes:
        task: the task's name.
        split: `dev`, `test` or another test set.
        metric: its metric.
        a: of the first side, one number a seed.
        b: of the second side, of the same seeds.
        seeds: these seeds; of two single runs none, for they are compared whatever their seeds.
    """

    task: str
    split: str
    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def test(self) -> Paired:
        """What the pairs say of b - a."""
        return paired(self.b, self.a)


@dataclass(frozen=True)
class Flips:
    """How often both, one or neither of two sides is right, over the examples that both answered.

    Attributes:
        split: the test set.
        both: right on both sides.
        only_a: right on the first side alone.
        only_b: right on the second side alone.
        neither: wrong on both sides.
        changed: examples with another answer, right or wrong.
        lost: uids right on the first side alone, the first few; with task and seed where there are several.
        gained: those right on the second side alone.
        p: two-sided p of McNemar's exact test: whether `only_a` and `only_b` might be tosses of a coin; None where
            several pairs of runs answered the same examples, which are no independent tosses.
    """

    split: str
    both: int
    only_a: int
    only_b: int
    neither: int
    changed: int
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    p: float | None

    @property
    def total(self) -> int:
        """The number of examples."""
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True)
class Comparison:
    """What differs between two sides.

    Attributes:
        differences: of settings.
        results: of metrics.
        costs: name -> mean of each side.
        environments: of versions and machines.
        flips: of answers, for each test set.
        notes: what a reader should know.
    """

    differences: tuple[Difference, ...]
    results: tuple[Result, ...]
    costs: tuple[tuple[str, float, float], ...]
    environments: tuple[Difference, ...]
    flips: tuple[Flips, ...]
    notes: tuple[str, ...]


def compare_runs(a: Selected, b: Selected) -> Comparison:
    """Compare two runs, or two groups of runs seed by seed: in each group the trial best on dev counts for a seed.

    Two single runs are compared whatever their tasks and seeds are. Runs of groups belong together by task and seed; a
    group may hold trials of one method, not of several.

    Raises:
        RunFolderError: if a group holds runs that no cell of a table mixes, or nothing on one side has a partner.
    """
    pairs = _pairs(a, b)
    records = [run for pair in pairs for run in pair]
    alone = len(a.records) == len(b.records) == 1
    seeds = () if alone else tuple(sorted({seed_of(run) for run in records}))
    notes = _data_notes(pairs)
    # Both sides may have a run of one id, each in a folder of its own.
    folders = [(a.folders[left.run_id], b.folders[right.run_id]) for left, right in pairs]
    unpaired = len({*a.folders.values(), *b.folders.values()}.difference(*folders))
    if unpaired and not alone:
        are = "run is" if unpaired == 1 else "runs are"
        notes.append(f"{unpaired} {are} not compared: dev chose another trial, or there is no partner")
    return Comparison(
        tuple(_differences(a.records, b.records, flatten)),
        tuple(_results(pairs, alone=alone)),
        tuple(_costs(pairs)),
        tuple(_differences(a.records, b.records, _environment)),
        tuple(_flips(pairs, folders, notes)),
        (*([f"seeds {', '.join(map(str, seeds))}"] if seeds else []), *notes),
    )


def _pairs(a: Selected, b: Selected) -> list[tuple[Record, Record]]:
    if len(a.records) == len(b.records) == 1:
        return [(a.records[0], b.records[0])]
    left, right = _chosen(a), _chosen(b)
    common = sorted(left.keys() & right.keys())
    if not common:
        tasks = {
            side: ", ".join(sorted({f"{task} seed {seed}" for task, seed in side}))
            for side in (tuple(left), tuple(right))
        }
        raise RunFolderError(
            f"{a.name} and {b.name} have no task and seed in common: {tasks[tuple(left)]}; {tasks[tuple(right)]}"
        )
    return [(left[key], right[key]) for key in common]


def _chosen(side: Selected) -> dict[tuple[str, int], Record]:
    groups: dict[tuple[str, int], list[Record]] = defaultdict(list)
    tasks: dict[str, list[Record]] = defaultdict(list)
    for record in side.records:
        groups[record.task, seed_of(record)].append(record)
        tasks[record.task].append(record)
    models = names_of_models(side.records)
    for task, runs in tasks.items():  # Of all seeds: a mean over them is of one method too.
        _refuse_mixed(side, task, [flat | {"model.name": models[flat["model.name"]]} for flat in map(flatten, runs)])
    return {key: best(runs, runs[0].main_metric) for key, runs in groups.items()}


def _refuse_mixed(side: Selected, task: str, flats: Sequence[Mapping[Key, Any]]) -> None:
    keys = dict.fromkeys(key for flat in flats for key in flat if is_identity(key))
    # What is meant most often is said first: two methods differ in much besides.
    for key in sorted(keys, key=lambda key: not key.endswith(".kind")):
        if len({str(flat.get(key)) for flat in flats}) > 1:
            values = ", ".join(sorted({str(flat.get(key)) for flat in flats}))
            further = "," if side.conditions else "@"
            raise RunFolderError(
                f"{side.name}: runs on {task} differ in {key} ({values}), so they are not trials of one method; "
                f"choose with {side.name}{further}{key}=..."
            )


def _differences(a: Sequence[Record], b: Sequence[Record], flat: Any) -> Iterable[Difference]:
    left, right = ([flat(run) for run in side] for side in (a, b))
    keys = dict.fromkeys(key for settings in (*left, *right) for key in settings)
    for key in sorted(keys, key=lambda key: (key.partition(".")[0], not key.endswith(".kind"))):
        values = [tuple(_distinct(settings.get(key) for settings in side)) for side in (left, right)]
        if sorted(map(str, values[0])) != sorted(map(str, values[1])):
            yield Difference(key, values[0], values[1])


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted({json.dumps(value, sort_keys=True): value for value in values}.values(), key=natural)


def _environment(record: Record) -> dict[str, Any]:
    found = {key: value for key, value in record.environment.items() if not isinstance(value, dict)}
    return found | record.environment.get("packages", {})


def _results(pairs: Sequence[tuple[Record, Record]], *, alone: bool) -> Iterable[Result]:
    numbers: dict[Cell, list[tuple[int, float, float]]] = defaultdict(list)
    for mine, other in pairs:
        for split in (DEV, *(name for name in mine.metrics if name != DEV)):
            for metric, value in mine.metrics.get(split, {}).items():
                if metric in other.metrics.get(split, {}):
                    numbers[mine.task, split, metric].append((seed_of(mine), value, other.metrics[split][metric]))
    for (task, split, metric), found in numbers.items():
        seeds, a, b = zip(*found, strict=True)
        yield Result(task, split, metric, a, b, () if alone else seeds)


def _costs(pairs: Sequence[tuple[Record, Record]]) -> Iterable[tuple[str, float, float]]:
    read = {
        "forward passes": lambda run: None if run.passes is None else run.passes.forward,
        "backward passes": lambda run: None if run.passes is None else run.passes.backward,
        "seconds to fit": lambda run: run.seconds.get("fit"),
        "peak bytes above the weights": lambda run: None if run.memory is None else run.memory.peak,
        "trained weights": lambda run: None if run.weights is None else run.trained_weights,
    }
    for name, value in read.items():
        sides = [[number for run in side if (number := value(run)) is not None] for side in zip(*pairs, strict=True)]
        if all(sides):
            yield name, statistics.fmean(sides[0]), statistics.fmean(sides[1])


def _data_notes(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    known = [(a, b) for a, b in pairs if a.split is not None and b.split is not None]
    other = [a for a, b in known if a.split and b.split and a.split.digest != b.split.digest]
    if not other:
        return ["the splits are the same"] if known else []
    seeds = ", ".join(f"{run.task} seed {seed_of(run)}" for run in other[:SHOWN])
    return [f"not the same splits: {seeds}{', ...' if len(other) > SHOWN else ''}"]


def _flips(
    pairs: Sequence[tuple[Record, Record]], folders: Sequence[tuple[Path, Path]], notes: list[str]
) -> Iterable[Flips]:
    counts: dict[str, list[tuple[str, bool, bool, bool]]] = defaultdict(list)
    others: dict[str, str] = {}
    for places, before in zip(folders, _told_apart(pairs), strict=True):
        try:
            left, right = map(_answers, places)
        except DataError as error:
            notes.append(f"answers are not compared: {error}")
            return
        shared = [key for key in left if key in right]
        # Examples are named by their lines: where a right answer is not the same, neither are the files.
        differing = {key[0]: key[1] for key in reversed(shared) if _gold(left[key]) != _gold(right[key])}
        for split, uid in differing.items():
            others.setdefault(split, before + uid)
        for key in shared:
            split, uid = key
            if split in differing:
                continue
            said = left[key]["prediction"] != right[key]["prediction"]
            counts[split].append((before + uid, _right(left[key]), _right(right[key]), said))
    notes += [
        f"answers on {split} are not compared where the test sets are others: {uid} has another right answer"
        for split, uid in others.items()
    ]
    for split, rows in counts.items():
        lost, gained = ([uid for uid, a, b, _ in rows if (a, b) == which] for which in ((True, False), (False, True)))
        both = sum(a and b for _, a, b, _ in rows)
        yield Flips(
            split,
            both,
            len(lost),
            len(gained),
            len(rows) - both - len(lost) - len(gained),
            sum(changed for *_, changed in rows),
            tuple(lost[:SHOWN]),
            tuple(gained[:SHOWN]),
            _coin(len(lost), len(gained)) if len(pairs) == 1 else None,
        )


def _told_apart(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """Return what stands before the examples of each pair: its task and seed, where pairs differ in them."""
    of_tasks, of_seeds = len({run.task for run, _ in pairs}) > 1, len({seed_of(run) for run, _ in pairs}) > 1
    return [(f"{run.task} " if of_tasks else "") + (f"seed {seed_of(run)} " if of_seeds else "") for run, _ in pairs]


def _answers(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return split and uid -> row of a run's answers on test sets; values, which are not right or wrong, left out.

    Raises:
        DataError: if the file cannot be read, or a line of it is no answer.
    """
    path = folder / PREDICTIONS
    found: dict[tuple[str, str], dict[str, Any]] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                row = _answer(line, path, number)
                if row["split"] != DEV and isinstance(row["prediction"], str):
                    found[row["split"], row["uid"]] = row
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from None
    return found


def _answer(line: bytes, path: Path, number: int) -> dict[str, Any]:
    place = Place(str(path), number)
    try:
        row = parsed(place.where, line.decode("utf-8"), number)
    except UnicodeDecodeError:
        raise place.error("the row is not UTF-8") from None
    known = isinstance(row, dict) and isinstance(row.get("split"), str) and isinstance(row.get("uid"), str)
    if not known or "prediction" not in row:
        raise place.error("the row is not an answer to an example")
    return row


def _gold(row: Mapping[str, Any]) -> Any:
    return row.get("golds", row.get("label"))


def _right(row: Mapping[str, Any]) -> bool:
    gold = _gold(row)
    return row["prediction"] in gold if isinstance(gold, list) else row["prediction"] == gold


def _coin(one: int, other: int) -> float:
    """Return the two-sided p of McNemar's exact test: that of `one` heads in `one + other` tosses."""
    if not one + other:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(one, one + other).pvalue)
