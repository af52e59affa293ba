"""The draw of the large-model experiments: so many examples of train, dev and test, whatever their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shoestring.data.example import Example, Splits
from shoestring.data.published import OWN_SEED, own_seeds, subset
from shoestring.errors import DataError
from shoestring.tasks.spec import TEST, TRAIN, is_test

if TYPE_CHECKING:
    from shoestring.data.settings import DataSettings
    from shoestring.data.sources import Found

Examples = tuple[Example, ...]


def draw_subset(settings: DataSettings, seed: int, found: Found) -> Splits:
    """Return `num_train` and `num_dev` examples of train and `num_eval` of each test set.

    Train is put into random order; of its first num_train + num_dev examples the last num_dev are dev, and what stands
    before them is train: if there are not so many, dev keeps its size. Each test set is put into random order by the
    same seed and cut after num_eval; if it has fewer, it is whole, in that order. Labels are not balanced.

    With `settings.per_example` each test example has a training set of its own (`Splits.own`): test example i, by its
    place in the drawn test set, has the first num_train examples of train in the order of seed i of a fixed list.

    From one file, train and dev are drawn as above and the rest is test; with `per_example` it is the other way round.

    Source: princeton-nlp/MeZO `large_models/tasks.py`, `sample_subset` and `sample_train_sets`.

    Differs: without num_dev there is no dev set, where the published code selects on the test examples.

    Raises:
        DataError: if dev leaves nothing of train, or train nothing of the file for test, or test nothing for train.
    """
    if settings.per_example:
        return _with_own(settings, found)
    train, dev, tests = (), (), {name: table.all() for name, table in found.tables.items() if is_test(name)}
    if TRAIN in found.tables:
        everything = found.tables[TRAIN].all()
        num_train, num_dev = settings.num_train or 0, settings.num_dev or 0
        rows = subset(len(everything), seed, num_train + num_dev)
        middle = max(0, len(rows) - num_dev)
        train, dev = tuple(everything[row] for row in rows[:middle]), tuple(everything[row] for row in rows[middle:])
        if num_train and not train:
            raise DataError(
                found.tables[TRAIN].where,
                f"train has {len(everything)} examples, and data.num_dev={num_dev} leaves none of them to train on",
            )
        if found.one_file:
            tests = {TEST: _others(found, rows)}
    return Splits(train, dev, {name: _evaluated(settings, examples, seed) for name, examples in tests.items()})


def _with_own(settings: DataSettings, found: Found) -> Splits:
    everything, size = found.tables[TRAIN].all(), settings.num_train or 0
    tests: Mapping[str, Examples]
    if found.one_file:
        rows = subset(len(everything), OWN_SEED, settings.num_eval or len(everything))
        tests, everything = {TEST: tuple(everything[row] for row in rows)}, _others(found, rows)
    else:
        whole = {name: table.all() for name, table in found.tables.items() if is_test(name)}
        tests = {name: _evaluated(settings, examples, OWN_SEED) for name, examples in whole.items()}
    own: dict[str, Examples] = {}
    for examples in tests.values():
        for example, seed in zip(examples, own_seeds(len(examples)), strict=True):
            own[example.uid] = tuple(everything[row] for row in subset(len(everything), seed, size))
    return Splits((), (), tests, own=own)


def _evaluated(settings: DataSettings, examples: Examples, seed: int) -> Examples:
    if settings.num_eval is None:
        return examples
    return tuple(examples[row] for row in subset(len(examples), seed, settings.num_eval))


def _others(found: Found, rows: list[int]) -> Examples:
    """Return the examples of the one file that are not in `rows`, in their order."""
    taken, everything = {*rows}, found.tables[TRAIN].all()
    others = tuple(example for row, example in enumerate(everything) if row not in taken)
    if not others:
        raise DataError(
            found.tables[TRAIN].where,
            f"is one file of {len(everything)} examples, and train and test cannot share them as asked; smaller "
            "data.num_train, data.num_dev or data.num_eval, or data.test_source for the test set",
        )
    return others
