"""Data sets of the Hugging Face hub, or of a folder that mirrors them: one code path, `datasets.load_dataset`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from shoestring.data.example import Example
from shoestring.data.table import Table, draw_key, read_label
from shoestring.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datasets import Dataset

    from shoestring.tasks.spec import HubSource, Task

NO_LABEL = "-1"


def read_hub(
    task: Task, hub: HubSource, splits: Sequence[str], mirror: Path | None, revision: str | None
) -> dict[str, Table]:
    """Read splits of a task from the hub, or from the folder `mirror` that holds the same files.

    Labels are mapped by name; a number is one only where the task file maps it. Rows without a label (-1, or null) are
    left out; the uid of an example is `<split>:<0-based row>` all the same.

    Raises:
        DataError: if the data set cannot be loaded, lacks a column, or has a label or text of no use to the task.
    """
    return {split: _table(task, hub, split, _load(hub, hub.splits[split], mirror, revision)) for split in splits}


def _load(hub: HubSource, split: str, mirror: Path | None, revision: str | None) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetsError

    name = _name(hub, split) if mirror is None else _name(hub, split, str(mirror))
    try:
        with _quiet():
            loaded = datasets.load_dataset(
                hub.id if mirror is None else str(mirror),
                hub.config,
                split=split,
                revision=(revision or hub.revision) if mirror is None else None,
            )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "; without a network, give data.source: a local mirror, or LM-BFF's files" if mirror is None else ""
        raise DataError(name, f"cannot be loaded: {reason}{remedy}") from None
    return cast("Dataset", loaded)


def _table(task: Task, hub: HubSource, split: str, rows: Dataset) -> Table:
    from datasets import ClassLabel

    where = _name(hub, hub.splits[split])
    for column in (*hub.sentences, hub.label):
        if column not in rows.column_names:
            raise DataError(where, f"the column {column!r} is missing{suggest(column, rows.column_names)}")
    feature = rows.features[hub.label]
    names: list[str] = list(feature.names) if isinstance(feature, ClassLabel) else []
    examples: list[Example] = []
    texts = zip(*(cast("list[Any]", rows[column][:]) for column in hub.sentences), strict=True)
    for row, (sentences, raw) in enumerate(zip(texts, cast("list[Any]", rows[hub.label][:]), strict=True)):
        if raw is None or str(raw) == NO_LABEL:
            continue
        place = f"{where}, row {row}"
        for column, text in zip(hub.sentences, sentences, strict=True):
            if not isinstance(text, str):
                raise DataError(place, f"the column {column!r} is not text but {text!r}")
        given = names[raw] if names else str(raw)
        label = read_label(task, _mapped(task, hub, given, place), place, None)
        examples.append(Example(f"{split}:{row}", tuple(sentences), label))
    if not examples:
        raise DataError(where, "has no labelled rows")
    return Table(where, tuple(draw_key(task, example.label) for example in examples), tuple(examples))


def _mapped(task: Task, hub: HubSource, given: str, place: str) -> str:
    """Return the task's name of the hub's label; a number is one only where the task file says which."""
    if not hub.labels:
        return given
    if given in hub.labels:
        return hub.labels[given]
    if given.isdecimal():
        reason = f"the label is the bare number {given}: the names of the labels are lost{suggest(given, hub.labels)}"
        remedy = "restore them in the mirror (ClassLabel), or map the numbers in sources.hub.labels of a task file"
        raise DataError(place, f"{reason}; {remedy}")
    raise DataError(place, f"{given!r} is not a label of {task.name} there{suggest(given, hub.labels)}")


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
