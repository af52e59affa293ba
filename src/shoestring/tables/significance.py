"""Whether two methods differ, measured on the same splits: paired tests over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

EXACT = 16
"""Pairs up to which every flip of signs is looked at: 65,536 of them."""
DRAWS = 100_000
"""Random flips beyond that."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Paired:
    """What n pairs (a_i, b_i) say of a - b.

    Attributes:
        count: n.
        mean: the mean of the differences a_i - b_i.
        sd: their population standard deviation; None of one pair.
        t: two-sided p of the paired t test; None where it is not defined: one pair, or differences that are all equal.
        flips: two-sided p of the exact test by flips of signs; None of one pair.
    """

    count: int
    mean: float
    sd: float | None
    t: float | None
    flips: float | None


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare numbers that belong together one by one, such as two methods' accuracies of the same seeds.

    With d_i = a_i - b_i and their sample deviation s, the paired t test takes t = mean(d) sqrt(n) / s with n - 1
    degrees of freedom: it supposes that the d_i are normal. The test by flips supposes only that, were there no
    difference, each d_i might as well have the other sign: p is the share of all 2^n choices of signs, the one found
    among them, that give |sum(+-d_i)| >= |sum(d_i)|. It can be no smaller than 2 / 2^n: 0.0625 of five seeds.

    Neither is corrected for the number of comparisons that a table makes.

    Raises:
        ValueError: if there are not as many numbers on both sides, or none.

    Source: Student 1908; Fisher 1935, section 21 (signs).
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"pairs are needed, not {len(a)} numbers and {len(b)}")
    found = [x - y for x, y in zip(a, b, strict=True)]
    mean = statistics.fmean(found)
    if len(found) == 1:
        return Paired(1, mean, None, None, None)
    return Paired(len(found), mean, statistics.pstdev(found), _t_test(found), sign_flips(found))


def _t_test(differences: Sequence[float]) -> float | None:
    from scipy.stats import t as student

    spread, largest = statistics.stdev(differences), max(map(abs, differences))
    if spread <= _ROUNDING * largest or not largest:
        return None
    value = statistics.fmean(differences) * math.sqrt(len(differences)) / spread
    return float(2 * student.sf(abs(value), len(differences) - 1))


def sign_flips(differences: Sequence[float]) -> float:
    """Return the p of the test by flips of signs: exact up to `EXACT` differences, by `DRAWS` random flips beyond.

    Random flips come of a stream of their own, the same every time; p is then (1 + hits) / (1 + draws).
    """
    import numpy as np

    from shoestring.seeds import numpy_stream

    values = np.asarray(differences, dtype=np.float64)
    # Sums in another order differ by rounding: what is as large as the one found counts.
    least = abs(values.sum()) - _ROUNDING * np.abs(values).sum()
    if len(values) <= EXACT:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= least))
    flips = numpy_stream(0, "sign flips", len(values)).choice([-1.0, 1.0], size=(DRAWS, len(values)))
    return float((1 + np.count_nonzero(np.abs(flips @ values) >= least)) / (1 + DRAWS))
