"""The published draws, as lists of row numbers.

Source: princeton-nlp/LM-BFF and princeton-nlp/MeZO, `tools/generate_k_shot_data.py` (k-shot); princeton-nlp/MeZO,
`large_models/tasks.py` (subsets).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shoestring.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.data.settings import DrawnMode

SEEDS = (100, 13, 21, 42, 87)
"""The published seeds, in the order the published script takes them."""
TEST_LIMIT, TEST_SEED = 1000, 42
"""Size of the small test sets, and the seed they are drawn with, whatever the seed of the split."""
DEV_RATE = 10
OWN_SEED, OWN_SEEDS = 0, 10_000
"""Seed that the seeds of training sets per test example are drawn with, and the number they are below."""


def dev_rate(mode: DrawnMode) -> int:
    """Return how many times k the dev set holds per label, at most."""
    return DEV_RATE if mode == "k-shot-10x" else 1


def chain(seed: int, cumulative: bool) -> tuple[int, ...]:
    """Return the seeds whose shuffles lie behind the rows of `seed`: itself; cumulative, all published ones up to it.

    A seed that is not a published one is drawn alone, as the script does when asked for that seed only.

    Raises:
        DataError: if NumPy's legacy generator does not take the seed.
    """
    if not 0 <= seed < 2**32:
        raise DataError("split", f"the seed {seed} is not between 0 and {2**32 - 1}")
    return SEEDS[: SEEDS.index(seed) + 1] if cumulative and seed in SEEDS else (seed,)


def train_and_dev(keys: Sequence[str], k: int, seeds: Sequence[int], rate: int) -> tuple[list[int], list[int]]:
    """Return the rows of train and dev: shuffled, then k and up to `rate` k per key, keys in order of appearance."""
    groups: dict[str, list[int]] = {}
    for row in shuffled(len(keys), seeds):
        groups.setdefault(keys[row], []).append(row)
    train = [row for rows in groups.values() for row in rows[:k]]
    dev = [row for rows in groups.values() for row in rows[k : k + k * rate]]
    return train, dev


def small_test(count: int, *, tsv: bool, times: int = 1) -> list[int]:
    """Return the rows of the 1,000-example test set: all, in order, if there are no more than that.

    A tsv file is shuffled `times` times over (CoLA: once per seed in its chain); a csv file is sampled by pandas.
    """
    if count <= TEST_LIMIT:
        return list(range(count))
    if tsv:
        return shuffled(count, [TEST_SEED] * times)[:TEST_LIMIT]
    # What pandas.DataFrame.sample(n=1000, random_state=42) draws.
    return np.random.RandomState(TEST_SEED).choice(count, size=TEST_LIMIT, replace=False).tolist()


def shuffled(count: int, seeds: Sequence[int]) -> list[int]:
    """Return 0 ... count-1 shuffled by each seed in turn, as NumPy's legacy global generator would."""
    order = np.arange(count)
    for seed in seeds:
        np.random.RandomState(seed).shuffle(order)
    return order.tolist()


def subset(count: int, seed: int, size: int) -> list[int]:
    """Return `size` of the rows 0 ... count-1 in random order, or all of them if there are fewer."""
    return np.random.RandomState(seed).permutation(count)[:size].tolist()


def own_seeds(count: int) -> list[int]:
    """Return the seeds of `count` training sets, one for each test example."""
    return np.random.RandomState(OWN_SEED).randint(0, OWN_SEEDS, count).tolist()
