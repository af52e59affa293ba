"""Ours next to theirs: the runs of a recipe, and the numbers that a paper published for them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from shoestring.runs.record import Record
from shoestring.runs.words import LOSS, shown, title
from shoestring.studies.keys import leaves
from shoestring.studies.study import Arm, Published, Study, Trial
from shoestring.tables.arranging import best, distinct
from shoestring.tables.cells import Cell, Column, TableData
from shoestring.tables.commands import toml_value
from shoestring.tables.costs import COST_COLUMNS, COSTS, costs
from shoestring.tables.grouping import NOTHING, TASK, Key, flat_config, flatten, is_identity
from shoestring.tables.places import seed_of
from shoestring.tables.table_notes import left_out_notes
from shoestring.tables.views import mean_and_spread
from shoestring.tasks.spec import TEST

WITHIN, ABOVE, BELOW = "=", ">", "<"
_MARKS = (
    f"{WITHIN} ours is within one standard deviation of theirs, {ABOVE} above it, {BELOW} below it by more; "
    "no mark where no deviation was published"
)
_NEAR = 6

Flat = dict[Key, Any]


@dataclass(frozen=True)
class Slot:
    """A cell of the table: which runs belong there, and what was published for it.

    Attributes:
        row: the variant's name, and the values of further keys that tell the study's cells apart.
        column: the value of the column's key.
        wanted: the settings that a run there has.
        metric: what is shown of them.
        published: the numbers, mean and standard deviation, and their sources.
        among: what the variant sweeps, where nothing else tells it from another: key -> values.
    """

    row: tuple[str, ...]
    column: str
    wanted: Flat
    metric: str
    published: tuple[Published, ...] = ()
    among: dict[Key, list[Any]] = field(default_factory=dict[Key, list[Any]])

    def holds(self, settings: Flat) -> bool:
        """Return whether a run of these settings belongs here; a setting that it does not know is no difference."""
        return not self.differences(settings)

    def differences(self, settings: Flat) -> list[Key]:
        """Return the keys in which a run differs from those that belong here."""
        allowed = {key: [value] for key, value in self.wanted.items()} | self.among
        return [key for key, values in allowed.items() if key in settings and settings[key] not in values]

    @property
    def theirs(self) -> tuple[float, float | None] | None:
        """Published mean and standard deviation, times 100."""
        return self.published[0].numbers[self.column] if self.published else None


def compare(study: Study, records: Iterable[Record], *, with_costs: bool = True) -> TableData:
    """Return the table of a study: for each of its cells our mean (sd, n), and the published mean (sd) with a mark.

    A run belongs to the cell of the study whose data, model, prompt, kinds and objective it shares, as in any table;
    where variants share them, to the one whose other fixed settings it has, or, where they fix the same, one of whose
    swept ones. Of the study's seeds each counts the trial best on dev.

    Raises:
        ConfigError: if a combination of the study is no config.
    """
    slots = slots_of(study)
    known, copies = distinct(records)
    wanted = [record for record in known if seed_of(record) in study.seeds]
    counted = [record for record in wanted if record.status == "ok"]
    placed: dict[int, dict[int, list[Record]]] = {number: {} for number in range(len(slots))}
    strangers: list[tuple[Record, Flat]] = []
    for record in counted:
        settings = flatten(record)
        number = next((at for at, slot in enumerate(slots) if slot.holds(settings)), None)
        if number is None or slots[number].metric not in record.metrics.get(TEST, {}):
            strangers.append((record, settings))
        else:
            placed[number].setdefault(seed_of(record), []).append(record)
    chosen = {
        (slot.row, slot.column): {seed: best(runs, slot.metric) for seed, runs in sorted(placed[number].items())}
        for number, slot in enumerate(slots)
    }
    found = {(slot.row, slot.column): slot for slot in slots}
    rows, columns = (list(dict.fromkeys(keys)) for keys in zip(*found, strict=True))
    ids = {record.run_id for record in counted}
    there = sum(config.run_id in ids for config in study.configs())
    notes = [
        *([COSTS] if with_costs else []),
        _MARKS,
        *_tally(slots, chosen),
        *dict.fromkeys(entry.source for slot in slots for entry in slot.published),
        *_idle(study, slots),
        f"{there:,} of the recipe's {len(study.configs()):,} runs are there",
        *_missing(study, found, chosen),
        *_stranger_notes(strangers, slots),
        *left_out_notes(known, wanted, copies),
    ]
    made = [
        (
            *(Cell(text, (text,)) for text in row),
            *(cell for column in columns for cell in _pair(found.get((row, column)), chosen.get((row, column), {}))),
            *(costs([chosen.get((row, column), {}) for column in columns]) if with_costs else ()),
        )
        for row in rows
    ]
    return TableData(
        (*_label_columns(study), *_columns(columns, slots), *(COST_COLUMNS if with_costs else ())),
        tuple(made),
        _caption(study, slots),
        tuple(notes),
    )


def _idle(study: Study, slots: Sequence[Slot]) -> list[str]:
    """Name published numbers that no cell of the study has, being misspelt or not asked for."""
    used = {(id(entry), slot.column) for slot in slots for entry in slot.published}
    return [
        f"published, but no cell here: {', '.join(idle)}{f' of {entry.variant}' if entry.variant else ''}"
        for entry in study.settings.published
        if (idle := [value for value in entry.values if (id(entry), value) not in used])
    ]


def slots_of(study: Study) -> list[Slot]:
    """Return the cells of a study, in its order: variant by variant, then as its swept keys go."""
    firsts: dict[tuple[str, ...], Trial] = {}
    for trial in study.trials():
        told = [f"{key}={value}" for key, value in leaves(trial.settings) if is_identity(key)]
        firsts.setdefault((trial.variant, *told), trial)
    column, further = column_of(study), _further_keys(study)
    swept = {arm.name: _swept(arm) for arm in study.arms}
    flats = [(trial, _flat(trial)) for trial in firsts.values()]

    @cache
    def tried(variant: str) -> list[Flat]:
        return [_flat(trial) for trial in study.trials() if trial.variant == variant]

    found: list[Slot] = []
    for trial, flat in flats:
        wanted = {key: value for key, value in flat.items() if is_identity(key)}
        for key in _telling(trial, flat, flats, swept):
            wanted[key] = flat.get(key)
        value = flat[TASK] if column == TASK else _text(_setting(flat, column))
        entries = tuple(
            entry
            for entry in study.settings.published
            if (entry.variant or "") == trial.variant and entry.column == column and value in entry.values
        )
        metric = entries[0].metric if entries else trial.config.task.metric
        row = (trial.variant or study.title, *(_text(_setting(flat, key)) for key in further))
        among = _swept_apart(trial, flat, flats, swept, tried)
        found.append(Slot(row, value, wanted, metric, entries, among))
    return found


def _flat(trial: Trial) -> Flat:
    return flat_config(trial.config.model_dump(mode="json"))


def column_of(study: Study) -> Key:
    """Return the key that a study's columns are told apart by: that of its first published numbers, or the task."""
    return study.settings.published[0].column if study.settings.published else TASK


def _further_keys(study: Study) -> list[Key]:
    """Return swept keys, other than the column's, that tell cells apart."""
    column = column_of(study)
    return [
        key
        for key in dict.fromkeys(key for arm in study.arms for key in _swept(arm))
        if is_identity(key) and key != column
    ]


def _swept(arm: Arm) -> list[Key]:
    """Return the keys that an arm sweeps; of sections that are swept whole, the keys in them."""
    return list(
        dict.fromkeys(key for name, values in arm.over.items() for one in values for key, _ in leaves({name: one}))
    )


def _setting(flat: Flat, key: Key) -> Any:
    """Return the value of a key, which may lie within the value of a shorter one; None where there is none."""
    if key in flat or "." not in key:
        return flat.get(key)
    outer, _, last = key.rpartition(".")
    inner = _setting(flat, outer)
    return inner.get(last) if isinstance(inner, Mapping) else None


def _telling(
    trial: Trial, flat: Flat, others: Sequence[tuple[Trial, Flat]], swept: Mapping[str, Iterable[Key]]
) -> list[Key]:
    """Return the keys that tell a trial's variant from those which share its cell, though dev chooses among them."""
    keys: dict[Key, None] = {}
    for other, settings in _sharing(trial, flat, others):
        chosen = {*swept[trial.variant], *swept[other.variant], "seed"}
        keys |= dict.fromkeys(key for key in flat if key not in chosen and settings.get(key) != flat[key])
    return list(keys)


def _swept_apart(
    trial: Trial,
    flat: Flat,
    others: Sequence[tuple[Trial, Flat]],
    swept: Mapping[str, Iterable[Key]],
    tried: Callable[[str], Sequence[Flat]],
) -> dict[Key, list[Any]]:
    """Return the keys, with their values, of which a variant tries none that another does which fixes the same."""
    found: dict[Key, list[Any]] = {}
    for other, settings in _sharing(trial, flat, others):
        if _telling(trial, flat, [(other, settings)], swept):
            continue
        for key in dict.fromkeys([*swept[trial.variant], *swept[other.variant]]):
            mine, theirs = ([one.get(key) for one in tried(name)] for name in (trial.variant, other.variant))
            if not is_identity(key) and not any(value in theirs for value in mine):
                found[key] = mine
    return found


def _sharing(trial: Trial, flat: Flat, others: Sequence[tuple[Trial, Flat]]) -> list[tuple[Trial, Flat]]:
    """Return the trials of other variants that share a trial's cell."""
    mine = {key: value for key, value in flat.items() if is_identity(key)}
    return [
        (other, settings)
        for other, settings in others
        if other.variant != trial.variant and all(settings.get(key) == value for key, value in mine.items())
    ]


def _pair(slot: Slot | None, picked: dict[int, Record]) -> tuple[Cell, Cell]:
    """Return our cell and theirs."""
    if slot is None:
        return Cell("", (None, None, 0)), Cell("", (None, None, None))
    ours = Cell(NOTHING, (None, None, 0))
    numbers = [run.metrics[TEST][slot.metric] for run in picked.values()]
    if numbers:
        mean, spread, count = mean_and_spread(numbers)
        told = NOTHING if spread is None else shown(slot.metric, spread)
        ours = Cell(f"{shown(slot.metric, mean)} ({told}, {count})", (mean, spread, count))
    if slot.theirs is None:
        return ours, Cell(NOTHING, (None, None, None))
    mean, sd = slot.theirs
    text = f"{mean:.1f}" if sd is None else f"{mean:.1f} ({sd:.1f})"
    mark = _mark(slot, numbers)
    return ours, Cell(
        f"{text} {mark}".rstrip(), (mean / 100, None if sd is None else sd / 100, mark == WITHIN if mark else None)
    )


def _mark(slot: Slot, numbers: Sequence[float]) -> str:
    mean, sd = slot.theirs or (0.0, None)
    if not numbers or sd is None:
        return ""
    difference = 100 * mean_and_spread(numbers)[0] - mean
    # What is printed with one decimal was rounded to it.
    if abs(difference) <= sd + 1e-9:
        return WITHIN
    return ABOVE if difference > 0 else BELOW


def _tally(slots: Sequence[Slot], chosen: dict[Any, dict[int, Record]]) -> list[str]:
    marks = [
        _mark(slot, [run.metrics[TEST][slot.metric] for run in chosen[slot.row, slot.column].values()])
        for slot in slots
    ]
    marked = [mark for mark in marks if mark]
    if not marked:
        return []
    cells = "1 cell" if len(marked) == 1 else f"{len(marked)} cells"
    return [f"of {cells} that can be compared, ours is within in {marked.count(WITHIN)}"]


def _missing(study: Study, found: dict[Any, Slot], chosen: dict[Any, dict[int, Record]]) -> list[str]:
    """Name the cells that lack seeds, and the command that makes them."""
    lacking = {key: set(study.seeds) - chosen[key].keys() for key in found}
    notes: list[str] = []
    for row in dict.fromkeys(row for row, _ in found):
        parts: dict[tuple[int, ...], list[str]] = {}
        for (other, column), seeds in lacking.items():
            if other == row and seeds:
                parts.setdefault(tuple(sorted(seeds)), []).append(column)
        mine = [column for other, column in found if other == row]
        for seeds, columns in parts.items():
            all_of = len(seeds) == len(study.seeds)
            told = "" if all_of else f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} of "
            where = "" if columns == mine else f" in {', '.join(columns)}"
            notes.append(f"missing: {told}{', '.join(text for text in row if text)}{where}")
    if notes:
        notes.append(f"  {_sweep(study, lacking)}")
    return notes


def _sweep(study: Study, lacking: dict[Any, set[int]]) -> str:
    words = ["shoestring", "sweep", study.source, *study.fixed]
    column = column_of(study)
    columns = list(dict.fromkeys(value for (_, value), seeds in lacking.items() if seeds))
    over = [arm.over.get(column, ()) for arm in study.arms]
    # Only a sweep that all variants share can be cut short for all of them, and only by the values it has itself: a
    # column is called by its task's name, where the sweep may have the path of its file.
    shared = all(values == over[0] for values in over)
    if shared and len(columns) < len(over[0]) and {*columns} <= {*map(_text, over[0])}:
        words += ["--over", f"{column}={','.join(map(toml_value, columns))}"]
    seeds = sorted(set().union(*lacking.values()))
    if tuple(seeds) != study.settings.seeds:
        words += ["--seeds", ",".join(map(str, seeds))]
    return shlex.join(words)


def _stranger_notes(strangers: Sequence[tuple[Record, Flat]], slots: Sequence[Slot]) -> list[str]:
    """Say how many runs are none of the study's, and what keeps the nearest of them apart."""
    if not strangers:
        return []
    count = len(strangers)
    far = [(min((slot.differences(flat) for slot in slots), key=len), record, flat) for record, flat in strangers]
    keys, record, flat = min(far, key=lambda item: (len(item[0]), item[1].run_id))
    note = f"{count} other finished {'run is' if count == 1 else 'runs are'} none of the recipe's"
    if not 0 < len(keys) <= _NEAR:
        return [note]
    told = ", ".join(f"{key} is {flat.get(key)!r}" for key in keys)
    plain = [key for key in keys if "." in key and not key.startswith("task.")]
    remedy = "".join(f" --set {shlex.quote(f'{key}={toml_value(flat[key])}')}" for key in plain)
    return [
        f"{note}; of run {record.run_id}, the nearest, {told}"
        + (f": its like are compared with{remedy}" if remedy and len(plain) == len(keys) else "")
    ]


def _label_columns(study: Study) -> list[Column]:
    heads = [
        "variant" if study.settings.variants else "recipe",
        *(key.rpartition(".")[2] for key in _further_keys(study)),
    ]
    return [Column(head, "left", (head,)) for head in heads]


def _columns(values: Sequence[str], slots: Sequence[Slot]) -> list[Column]:
    several = len({slot.metric for slot in slots}) > 1
    columns: list[Column] = []
    for value in values:
        metrics = sorted({slot.metric for slot in slots if slot.column == value})
        name = f"{value} {'/'.join(map(title, metrics))}"
        head = name if several else value
        columns.append(Column(head, "right", tuple(f"{name} {part}" for part in ("mean", "sd", "n"))))
        theirs = tuple(f"{name} published {part}" for part in ("mean", "sd", "within"))
        columns.append(Column("published", "right", theirs))
    return columns


def _caption(study: Study, slots: Sequence[Slot]) -> str:
    metrics = sorted({slot.metric for slot in slots})
    what = title(metrics[0]) if len(metrics) == 1 else "the metric named"
    scale = "" if metrics == [LOSS] else " x 100"
    told = "ours: mean (population standard deviation, number of seeds); published: mean (standard deviation)"
    return f"{study.title}: {what}{scale} on test; {told}"


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else toml_value(value)
