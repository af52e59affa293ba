"""Data sets of the Hugging Face hub, or of a folder that mirrors them: one code path, `datasets.load_dataset`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from shoestring.data.answers import Row, to_example
from shoestring.data.computed import computed
from shoestring.data.place import Place
from shoestring.data.records import follow
from shoestring.data.table import Table, draw_key
from shoestring.errors import DataError, first_line, suggest
from shoestring.hub import hub_mode
from shoestring.tasks.jinja import is_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset

    from shoestring.data.example import Example
    from shoestring.tasks.spec import HubSource, Task

NO_LABEL = "-1"


def read_hub(
    task: Task, hub: HubSource, splits: Sequence[str], mirror: Path | None, revision: str | None
) -> dict[str, Table]:
    """Read splits of a task from the hub, or from the folder `mirror` that holds the same files.

    Labels are mapped by name; a number is one only where the task file maps it. Rows without a label (null, or -1 where
    the task has no such label or value) are left out; the uid of an example is `<split>:<0-based row>` all the same.

    Raises:
        DataError: if the data set cannot be loaded, lacks a column, or has a label, text or answer of no use to the
            task.
    """
    return {split: _table(task, hub, split, _load(hub, hub.splits[split], mirror, revision)) for split in splits}


def _load(hub: HubSource, split: str, mirror: Path | None, revision: str | None) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetsError

    name = _name(hub, split) if mirror is None else _name(hub, split, str(mirror))
    try:
        with _quiet(), hub_mode(source := hub.id if mirror is None else str(mirror)):
            loaded = datasets.load_dataset(
                source,
                hub.config,
                split=split,
                revision=(revision or hub.revision) if mirror is None else None,
            )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        remedy = "; without a network, give data.source: a local mirror, or LM-BFF's files" if mirror is None else ""
        raise DataError(name, f"cannot be loaded: {first_line(error)}{remedy}") from None
    return cast("Dataset", loaded)


def _table(task: Task, hub: HubSource, split: str, rows: Dataset) -> Table:
    where = _name(hub, hub.splits[split])
    several = hub.candidates if isinstance(hub.candidates, tuple) else (hub.candidates,)
    wanted = [name for name in (*hub.sentences, hub.label, hub.golds, *several) if name is not None]
    columns = {name: _column(rows, name, where) for name in wanted}
    names = _label_names(rows, hub)
    examples: list[Example] = []
    for number in range(len(rows)):
        values = {name: values[number] for name, values in columns.items()}
        if hub.label is not None and not _is_label(task, hub, values[hub.label], names):
            continue
        row = _row(hub, values, names, f"{split}:{number}", place := Place(f"{where}, row {number}"))
        if row.label is None or row.label not in hub.skip_labels:
            examples.append(to_example(task, hub, row, place))
    if not examples:
        raise DataError(where, "has no labelled rows")
    return Table(where, tuple(draw_key(task, example.label) for example in examples), tuple(examples))


def _row(hub: HubSource, values: Mapping[str, Any], names: Sequence[str], uid: str, place: Place) -> Row:
    texts = tuple(values[column] for column in hub.sentences)
    for column, text in zip(hub.sentences, texts, strict=True):
        if not isinstance(text, str):
            raise place.error(f"the column {column!r} is not text but {text!r}")
    label: str | None = None
    if hub.label is not None:
        raw = values[hub.label]
        label = names[int(raw)] if names else str(raw)
        _refuse_bare_number(hub, label, place)
    several = isinstance(hub.candidates, tuple)
    candidates = [values[name] for name in hub.candidates or ()] if several else values.get(str(hub.candidates))
    return Row(uid, texts, label, candidates, None if hub.golds is None else values[hub.golds])


def _column(rows: Dataset, name: str, where: str) -> list[Any]:
    """Return a column, the field of each record of a column (`answers.text`), or what is computed of every row."""
    if is_template(name):
        compute = computed(name, where)
        return [compute(row) for row in cast("list[dict[str, Any]]", list(rows))]
    first, *rest = [name] if name in rows.column_names else name.split(".")
    if first not in rows.column_names:
        raise DataError(where, f"the column {first!r} is missing{suggest(first, rows.column_names)}")
    values = cast("list[Any]", rows[first][:])
    try:
        return [follow(value, rest) for value in values]
    except KeyError as error:
        raise DataError(where, f"the column {first!r} has no field {error.args[0]!r}, which {name!r} needs") from None


def _label_names(rows: Dataset, hub: HubSource) -> list[str]:
    """Return the names of the label's numbers; [] where the labels are no numbers, or count candidates in a list."""
    from datasets import ClassLabel

    if isinstance(hub.candidates, str):
        return []
    feature = rows.features.get(hub.label) if hub.label is not None else None
    return list(feature.names) if isinstance(feature, ClassLabel) else []


def _is_label(task: Task, hub: HubSource, given: Any, names: Sequence[str]) -> bool:
    """Return whether a row has a label: not null, nor the -1 that stands for none unless the task means something."""
    if given is None or str(given) != NO_LABEL:
        return given is not None
    valued = task.range is not None and task.range.low <= int(NO_LABEL)
    return not names and (valued or NO_LABEL in (hub.labels or task.label_names))


def _refuse_bare_number(hub: HubSource, given: str, place: Place) -> None:
    """Refuse a number where the task file maps names: it says nothing, since orders differ."""
    if hub.labels and given not in hub.labels and given.isdecimal():
        reason = f"the label is the bare number {given}: the names of the labels are lost{suggest(given, hub.labels)}"
        remedy = "restore them in the mirror (ClassLabel), or map the numbers in sources.hub.labels of a task file"
        raise place.error(f"{reason}; {remedy}")


def _name(hub: HubSource, split: str, place: str | None = None) -> str:
    config = f" ({hub.config})" if hub.config else ""
    return f"hub data set {place or hub.id}{config}, split {split}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the library's progress bars where nobody watches them, and put its setting back."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    change = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if change:
        disable_progress_bars()
    try:
        yield
    finally:
        if change:
            enable_progress_bars()
