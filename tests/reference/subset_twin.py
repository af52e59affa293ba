"""The published draw of the large-model experiments, step by step on lists, with NumPy's global generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def first_of_a_permutation(rows: Sequence[Any], seed: int, number: int) -> list[Any]:
    with global_seed(seed):
        order = np.random.permutation(len(rows))  # noqa: NPY002
    return [rows[place] for place in order.tolist()][:number]


def one_set(
    train: Sequence[Any], valid: Sequence[Any], seed: int, num_train: int, num_dev: int | None, num_eval: int | None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return train, dev and evaluation rows: dev is sliced off the end of what was drawn for both."""
    drawn = first_of_a_permutation(train, seed, num_train + (num_dev or 0))
    dev = drawn[-num_dev:] if num_dev else []
    rest = drawn[:-num_dev] if num_dev else drawn
    return rest, dev, list(valid) if num_eval is None else first_of_a_permutation(valid, seed, num_eval)


def a_set_each(
    train: Sequence[Any], valid: Sequence[Any], num_train: int, num_eval: int | None
) -> list[tuple[Any, list[Any]]]:
    """Return each evaluation row with its own training rows."""
    with global_seed(0):
        seeds = np.random.randint(0, 10000, len(valid) if num_eval is None else num_eval)  # noqa: NPY002
    asked = list(valid) if num_eval is None else first_of_a_permutation(valid, 0, num_eval)
    sets = [first_of_a_permutation(train, int(seed), num_train) for seed in seeds]
    return list(zip(asked, sets, strict=False))
