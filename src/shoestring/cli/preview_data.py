"""What a preview reads where nobody says how the data are drawn: whatever there is to be shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from shoestring.data.settings import DataSettings
from shoestring.data.sources import find_folder, read_source
from shoestring.tasks.spec import TRAIN, Task, is_test

_DRAWN = {"mode", "k", "allow_fewer"}


def shown_data(task: Task, data: DataSettings, split: str, *, trains: bool) -> DataSettings:
    """Return the settings that a preview of one split has.

    Where neither mode nor k is given, labels with few examples show those they have, and a test set is read alone.

    Args:
        task: the task.
        data: the settings that were given.
        split: the split to be shown.
        trains: whether training examples are shown beside, as demonstrations.

    Raises:
        DataError: if a source that is one file cannot be read.
    """
    if data.model_fields_set & _DRAWN:
        return data
    if _one_file(data):
        # Train and dev are to leave something of the file, which is test.
        counts = Counter(read_source(task, data).tables[TRAIN].keys)
        fits = (min(counts.values()) - 1) // 2
        return data.model_copy(update={"k": max(1, min(data.k, fits)), "allow_fewer": True})
    if is_test(split) and not trains and data.max_test is None:
        return data.model_copy(update={"mode": "subset", "num_train": 0})
    return data.model_copy(update={"allow_fewer": True})


def has_only_test(task: Task, data: DataSettings) -> bool:
    """Return whether a test set is all that the source has of a task, so that nothing but `--split test` can be had."""
    return not data.model_fields_set & _DRAWN and not _one_file(data) and find_folder(task, data).only_test


def _one_file(data: DataSettings) -> bool:
    return data.source is not None and Path(data.source).is_file() and data.test_source is None
