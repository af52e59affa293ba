from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shoestring.tables.significance import EXACT, paired, sign_flips

numbers = st.floats(-1, 1, allow_subnormal=False).map(lambda value: round(value, 3))


def flips_one_by_one(differences: list[float]) -> float:
    """The twin: every choice of signs written out."""
    found = abs(sum(differences))
    sums = [
        abs(sum(sign * one for sign, one in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(one > found - 1e-9 for one in sums) / len(sums)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_flips_are_those_written_out(differences: list[float]) -> None:
    assert sign_flips(differences) == pytest.approx(flips_one_by_one(differences), abs=1e-15)


def test_tests_are_scipys() -> None:
    stream = np.random.default_rng(3)
    a, b = stream.normal(0.9, 0.02, 7), stream.normal(0.88, 0.02, 7)
    found = paired(a.tolist(), b.tolist())
    assert found.t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    exact = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=10_000,
    )  # fmt: skip
    assert found.flips == pytest.approx(exact.pvalue)
    assert found.mean == pytest.approx(np.mean(a - b))
    assert found.sd == pytest.approx(np.std(a - b))


def test_five_seeds_that_all_agree_reach_one_in_sixteen() -> None:
    assert paired([0.9, 0.91, 0.92, 0.93, 0.94], [0.8, 0.8, 0.8, 0.8, 0.8]).flips == 2 / 2**5


def test_many_pairs_are_flipped_at_random_and_the_same_every_time() -> None:
    stream = np.random.default_rng(5)
    values = stream.normal(0.2, 1, EXACT + 4).tolist()
    assert sign_flips(values) == sign_flips(values)
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    exact = np.mean(np.abs(sums) >= abs(sum(values)) - 1e-9)
    assert abs(sign_flips(values) - exact) < 4 * np.sqrt(exact * (1 - exact) / 100_000)


def test_one_pair_and_equal_differences_have_no_t() -> None:
    alone = paired([0.9], [0.8])
    assert (alone.count, alone.sd, alone.t, alone.flips) == (1, None, None, None)
    assert alone.mean == pytest.approx(0.1)
    same = paired([0.5, 0.6], [0.4, 0.5])
    assert same.t is None
    assert same.flips == 0.5
    assert paired([0.5, 0.6], [0.5, 0.6]).flips == 1.0
    assert paired([0.5, 0.6], [0.5, 0.6]).t is None


def test_what_has_no_partner_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs are needed, not 1 numbers and 2"):
        paired([0.5], [0.5, 0.6])
