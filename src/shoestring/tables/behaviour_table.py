"""One table of kernel behaviour: the kernel beside fine-tuning, the linearised model, the change of gradients."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from shoestring.errors import RunFolderError
from shoestring.progress import Progress
from shoestring.runs.behaviour import Behaviour, Looking, can_be_measured, measure
from shoestring.runs.collect import read_records
from shoestring.runs.record import Record
from shoestring.tables.grouping import NOTHING, TASK, flatten, is_identity
from shoestring.tables.one_folder import names_of_models
from shoestring.tables.table import Cell, Column, TableData, best, mean_and_spread, shown, title
from shoestring.tasks.spec import DEV, TEST

KERNEL, DESCENT = "kernel", "descent"
_OF_SIGNS = ("signgd", "asymmetric-signgd", "asymmetric-signgd-flipped")
ANALOGS = {"sgd": ("sgd",), "adam": _OF_SIGNS, "signgd": _OF_SIGNS}
"""Methods that fine-tune, and the formulas of the kernels that describe them."""
SOLVED, LINEAR, FIXED = 0.9, 0.5, 2.0
_NO_LABELS = ("method.kind", "method.objective")
_NOTES = (
    "kernel / tuned: the kernel solves the task where it reaches 90% of fine-tuning",
    "of gain: what the linearised model at the tuned weights keeps of the gain over zero-shot; linear from 50% on",
    "change: |J - J0| / |J0| of training examples, mean; fixed below 2. Of gradients of one length that have nothing "
    "to do with each other it is 1.41: the cosine says more",
    "descent: the linearised model trained by itself (method.solver.kind='descent')",
)


@dataclass(frozen=True)
class Pair:
    """A fine-tuning and the kernel that describes it, on one task with one setting.

    Attributes:
        identity: the settings that both have in common, by key.
        method: the kind of method that fine-tunes.
        formula: the kernel's; None where there is no kernel.
        tuned: seed -> the run that dev chose.
        kernel: the same, of kernel regression.
        descent: the same, of descent of the linearised model.
    """

    identity: Mapping[str, Any]
    method: str
    formula: str | None
    tuned: Mapping[int, Record]
    kernel: Mapping[int, Record] = field(default_factory=dict)
    descent: Mapping[int, Record] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Seeds that numbers are of: where there is a kernel, those that both have."""
        return [seed for seed in self.tuned if not self.kernel or seed in self.kernel]


def kernel_behaviour(
    paths: Iterable[Path], looking: Looking | None = None, progress: Progress | None = None
) -> TableData:
    """Return the table of finished runs, measuring those fine-tuned runs that count and were not measured before.

    Args:
        paths: folders of runs, or run folders.
        looking: how runs are looked at.
        progress: where to report.

    Raises:
        RunFolderError: if there are no runs, nothing was fine-tuned, or data or model changed since.
        KernelError: if a model cannot be linearised.
        OutputError: if the disk refuses.
    """
    collected = read_records(paths)
    found = pairs(collected.records)
    folders = {record.run_id: folder for record, folder in zip(collected.records, collected.folders, strict=True)}
    counted = {run.run_id: run for pair in found for run in pair.tuned.values()}
    there = {run_id: folders[run_id] for run_id, run in counted.items() if can_be_measured(folders[run_id], run)}
    measured = {run_id: measure(folder, looking, progress) for run_id, folder in there.items()}
    missing = len(counted) - len(there)
    notes = list(collected.notes)
    if missing:
        kept = "1 fine-tuned run" if missing == 1 else f"{missing} fine-tuned runs"
        notes.insert(0, f"{kept} kept no model to look at: make them again with output.keep_model=true")
    return behaviour_table(found, measured, notes)


def pairs(records: Iterable[Record]) -> list[Pair]:
    """Return what can be compared among runs, the best of hyper-parameters on dev chosen for each seed.

    Raises:
        RunFolderError: if nothing was fine-tuned.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    done = [record for record in records if record.status == "ok"]
    models = names_of_models(done)
    for record in done:
        groups[json.dumps(_identity(record, models), sort_keys=True)].append(record)
    found = []
    for key, group in sorted(groups.items()):
        for method, formulas in ANALOGS.items():
            tuned = _chosen(group, lambda settings, method=method: settings["kind"] == method)
            here = [name for name in formulas if _chosen(group, lambda settings, name=name: _is_of(settings, name))]
            for formula in (here or [None]) if tuned else []:
                kernel, descent = (
                    _chosen(group, lambda s, f=formula, d=trained: _is_of(s, f) and _descends(s) == d)
                    for trained in (False, True)
                )
                found.append(Pair(json.loads(key), method, formula, tuned, kernel, descent))
    if not found:
        raise RunFolderError(
            f"none of these runs fine-tuned to its end by method.kind={' or '.join(map(repr, ANALOGS))}, so there is "
            "nothing to compare kernels with; see recipes/kernel-behaviour"
        )
    return found


def behaviour_table(found: Sequence[Pair], measured: Mapping[str, Behaviour], notes: Sequence[str] = ()) -> TableData:
    """Return the table, a row for each pair and test set: means over seeds.

    Args:
        found: the pairs.
        measured: run id -> what was measured of a fine-tuned run.
        notes: what else a reader should know.
    """
    labels = _labels(found)
    rows = [
        _row(pair, test, label, measured)
        for pair, label in zip(found, labels, strict=True)
        for test in next(iter(pair.tuned.values())).metrics
        if test != DEV
    ]
    metrics = dict.fromkeys(title(next(iter(pair.tuned.values())).main_metric) for pair in found)
    caption = f"Kernel behaviour: {', '.join(metrics)} x 100 on test, mean (sd, seeds)"
    return TableData(_COLUMNS, tuple(rows), caption, (*_NOTES, *notes))


def _row(pair: Pair, test: str, label: str, measured: Mapping[str, Behaviour]) -> tuple[Cell, ...]:
    metric, seeds = next(iter(pair.tuned.values())).main_metric, pair.seeds
    tuned = [pair.tuned[seed].metrics[test][metric] for seed in seeds]
    kernel = [pair.kernel[seed].metrics[test][metric] for seed in seeds if seed in pair.kernel]
    descent = [pair.descent[seed].metrics[test][metric] for seed in seeds if seed in pair.descent]
    seen = [measured[run.run_id] for run in (pair.tuned[seed] for seed in seeds) if run.run_id in measured]
    start, linear = ([values[test][metric] for values in part] for part in _both(seen))
    changes, cosines = ([statistics.fmean(values) for values in part] for part in _angles(seen))
    reached = _share(kernel, tuned, [0.0])
    # Only where all seeds were measured are these means of the same runs.
    kept = _share(linear, tuned, start) if len(seen) == len(seeds) else None
    task = str(pair.identity[TASK]) + ("" if test == TEST else f" {test}")
    texts = (task, label, pair.method, pair.formula or NOTHING)
    return (
        *(Cell(text, (text,)) for text in texts),
        *(_mean(numbers, metric) for numbers in (start, tuned, kernel)),
        _verdict(reached, lambda share: share >= SOLVED, "{:.0%}"),
        _mean(linear, metric),
        _verdict(kept, lambda share: share >= LINEAR, "{:.0%}"),
        _mean(descent, metric),
        _verdict(_middle(changes), lambda change: change < FIXED, "{:.2f}"),
        Cell(NOTHING, (None,)) if not cosines else Cell(f"{_middle(cosines):.2f}", (_middle(cosines),)),
    )


def _both(seen: Sequence[Behaviour]) -> tuple[list[Any], list[Any]]:
    return [one.start for one in seen], [one.linearised for one in seen]


def _angles(seen: Sequence[Behaviour]) -> tuple[list[Any], list[Any]]:
    return [one.change for one in seen], [one.cosine for one in seen]


def _middle(numbers: Sequence[float]) -> float | None:
    return statistics.fmean(numbers) if numbers else None


def _share(numbers: Sequence[float], whole: Sequence[float], base: Sequence[float]) -> float | None:
    """Return (mean - base) / (whole - base); None where something is missing or there is nothing to share."""
    if not numbers or not whole or not base:
        return None
    gain = statistics.fmean(whole) - statistics.fmean(base)
    return (statistics.fmean(numbers) - statistics.fmean(base)) / gain if gain > 0 else None


def _mean(numbers: Sequence[float], metric: str) -> Cell:
    if not numbers:
        return Cell(NOTHING, (None, None, 0))
    mean, spread, count = mean_and_spread(numbers)
    text = NOTHING if spread is None else shown(metric, spread)
    return Cell(f"{shown(metric, mean)} ({text}, {count})", (mean, spread, count))


def _verdict(number: float | None, good: Callable[[float], bool], form: str) -> Cell:
    if number is None:
        return Cell(NOTHING, (None, None))
    word = "yes" if good(number) else "no"
    return Cell(f"{form.format(number)} {word}", (number, word))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(f"{name} {part}" for part in ("mean", "sd", "n"))


_COLUMNS = (
    *(Column(head, "left", (head,)) for head in ("task", "setting", "tuned by", "kernel of")),
    *(Column(head, "right", _parts(head)) for head in ("zero-shot", "tuned", "kernel")),
    Column("kernel / tuned", "right", ("kernel / tuned", "solved")),
    Column("linearised", "right", _parts("linearised")),
    Column("of gain", "right", ("of gain", "linear")),
    Column(DESCENT, "right", _parts(DESCENT)),
    Column("change", "right", ("change", "fixed")),
    Column("cosine", "right", ("cosine",)),
)


def _identity(record: Record, models: Mapping[str, str]) -> dict[str, Any]:
    """Return what a fine-tuning and its kernel have in common; unset keys are left out, which older records lack."""
    flat = flatten(record)
    flat["model.name"] = models[flat["model.name"]]
    wanted = [key for key in flat if is_identity(key) and key not in _NO_LABELS]
    return {key: flat[key] for key in wanted if flat[key] is not None}


def _chosen(group: Sequence[Record], wanted: Callable[[Mapping[str, Any]], bool]) -> dict[int, Record]:
    """Return seed -> the best on dev of the runs whose method is wanted."""
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in group:
        if wanted(record.config["method"]):
            by_seed[int(record.config["seed"])].append(record)
    return {seed: best(runs, runs[0].main_metric) for seed, runs in sorted(by_seed.items())}


def _is_of(method: Mapping[str, Any], formula: str | None) -> bool:
    return formula is not None and method["kind"] == KERNEL and method["formula"] == formula


def _descends(method: Mapping[str, Any]) -> bool:
    return bool(method["solver"]["kind"] == DESCENT)


def _labels(found: Sequence[Pair]) -> list[str]:
    """Return what tells each pair's setting from others', but for the task."""
    keys = sorted({key for pair in found for key in pair.identity})
    told = [
        key for key in keys
        if not key.startswith(TASK) and len({json.dumps(pair.identity.get(key)) for pair in found}) > 1
    ]  # fmt: skip
    return [", ".join(_told(key, pair.identity[key]) for key in told if pair.identity.get(key) is not None) or NOTHING
            for pair in found]  # fmt: skip


def _told(key: str, value: Any) -> str:
    if key == "model.name":
        return PurePath(value).name
    name = key.partition(".")[0] if key.endswith(".kind") else key.rpartition(".")[2]
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
