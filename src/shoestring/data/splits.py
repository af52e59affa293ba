"""Draw the train, dev and test sets of a run, in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shoestring.data.example import Example, Splits
from shoestring.data.published import chain, dev_rate, small_test, train_and_dev
from shoestring.data.settings import DataSettings, DrawnMode
from shoestring.data.sources import Found, read_source
from shoestring.data.subset import draw_subset
from shoestring.errors import DataError
from shoestring.seeds import numpy_stream
from shoestring.tasks.spec import DEV, TEST, TRAIN, Task, is_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shoestring.data.table import Table

DEV_SHARE = 0.1

__all__ = ["DataSettings", "draw"]


def draw(task: Task, settings: DataSettings, seed: int) -> Splits:
    """Return the train, dev and test examples of one seed, which `settings.seed` may name instead.

    In the k-shot modes, from LM-BFF's original files, they are the very examples of the published k-shot files of that
    seed, in their order: rows are shuffled by NumPy's legacy generator; labels follow one another as they first appear;
    each gives its first k rows to train and its next k (10 k) to dev. From one file, test is what train and dev leave.
    A task without labels gives k rows in all. Mode `subset` is `draw_subset`.

    Differs: a label with fewer than 2 k examples is an error unless `settings.allow_fewer`; the published script takes
        what there is and says nothing.
    Source: princeton-nlp/LM-BFF and princeton-nlp/MeZO, `tools/generate_k_shot_data.py`.

    Raises:
        DataError: if the source cannot be read, or a label has no example or too few.
        UnknownNameError: if `settings.tests` names a test set that the task has not.
    """
    seed = seed if settings.seed is None else settings.seed
    found = read_source(task, settings, seed)
    mode = settings.mode
    if mode == "subset":
        return draw_subset(settings, seed, found)
    if mode == "given" or mode == "full":
        _every_label(task, found.tables[TRAIN])
        train, dev = _whole(settings, seed, found)
        tests = {name: table.all() for name, table in found.tables.items() if is_test(name)}
    else:
        check_counts(task, found.tables[TRAIN], settings.k, allow_fewer=settings.allow_fewer)
        train, dev, tests = _drawn(found, mode, settings.k, seed)
    if not tests:
        raise DataError(found.tables[TRAIN].where, "is one file; mode 'full' needs data.test_source for the test set")
    return Splits(train, dev, {name: _at_most(settings.max_test, task, name, tests[name]) for name in tests})


def check_counts(task: Task, table: Table, k: int, *, allow_fewer: bool) -> None:
    """Check that every label has an example, and 2 k of them unless fewer are allowed; without labels, the table has.

    Raises:
        DataError: otherwise; names the label, the count, what is needed and the largest k that fits.
    """
    counts = Counter(table.keys)
    _every_label(task, table)
    labels = task.label_names or ("",)
    for label in labels:
        if counts[label] < 2 * k and not allow_fewer:
            fits = min(counts[name] for name in labels) // 2
            remedy = (
                f"data.k={fits} would fit, or data.allow_fewer=true takes what there is" if fits else "add examples"
            )
            raise DataError(
                table.where,
                f"{f'label {label!r}' if label else 'it'} has {_examples(counts[label])}, {2 * k} are needed "
                f"(k={k} for train and {k} for dev); {remedy}",
            )


def _drawn(
    found: Found, mode: DrawnMode, k: int, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...], Mapping[str, tuple[Example, ...]]]:
    table = found.tables[TRAIN]
    seeds = chain(seed, found.files is not None and found.files.cumulative_shuffle)
    train, dev = train_and_dev(table.keys, k, seeds, dev_rate(mode))
    if not found.one_file:
        names = [name for name in found.tables if is_test(name)]
        rows = {name: _test_rows(found, mode, range(len(found.tables[name].keys)), len(seeds)) for name in names}
        return table.take(train), table.take(dev), {name: found.tables[name].take(rows[name]) for name in names}
    rest = sorted({*range(len(table.keys))} - {*train, *dev})
    if not rest:
        raise DataError(table.where, "train and dev leave no example for test; a smaller data.k, or data.test_source")
    return table.take(train), table.take(dev), {TEST: table.take(_test_rows(found, mode, rest, len(seeds)))}


def _test_rows(found: Found, mode: DrawnMode, rows: Sequence[int], times: int) -> list[int]:
    if mode != "k-shot-1k-test":
        return list(rows)
    tsv = found.files is None or found.files.format != "csv"
    return [rows[place] for place in small_test(len(rows), tsv=tsv, times=times)]


def _whole(settings: DataSettings, seed: int, found: Found) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    train = found.tables[TRAIN].all()
    if DEV in found.tables:
        return train, found.tables[DEV].all()
    count = max(1, round(len(train) * (settings.dev_share or DEV_SHARE)))
    if count >= len(train):
        raise DataError(found.tables[TRAIN].where, f"{_examples(len(train))} cannot be parted into train and dev")
    order = numpy_stream(seed, "dev of full").permutation(len(train)).tolist()
    dev = set(order[:count])
    return tuple(x for row, x in enumerate(train) if row not in dev), tuple(train[row] for row in order[:count])


def _every_label(task: Task, table: Table) -> None:
    if task.kind == "regression":
        return
    counts = Counter(table.keys)
    for label in task.label_names:
        if not counts[label]:
            present = ", ".join(repr(name) for name in sorted(counts))
            raise DataError(table.where, f"label {label!r} of {task.name} has no example; the labels there: {present}")


def _at_most(limit: int | None, task: Task, name: str, examples: tuple[Example, ...]) -> tuple[Example, ...]:
    if limit is None or len(examples) <= limit:
        return examples
    order = numpy_stream(0, "max_test", task.name, name).permutation(len(examples))
    return tuple(examples[row] for row in order[:limit].tolist())


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"
