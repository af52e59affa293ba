from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.metrics_twin import TEXT_TWINS, TWINS
from shoestring.errors import DataError, UnknownNameError
from shoestring.tasks.metrics import METRICS, compute

quick = settings(deadline=None, derandomize=True, max_examples=60)
CLASSES = [name for name, metric in METRICS.items() if "classification" in metric.kinds]
VALUES = [name for name, metric in METRICS.items() if "regression" in metric.kinds]
labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
value = st.integers(-50, 50).map(lambda tenth: tenth / 10)
values = st.lists(st.tuples(value, value), min_size=1, max_size=40)


@pytest.mark.parametrize("name", CLASSES)
@quick
@given(pairs=labels)
def test_a_metric_of_labels_equals_its_twin(name: str, pairs: list[tuple[int, int]]) -> None:
    predictions, targets = [list(column) for column in zip(*pairs, strict=True)]
    assert METRICS.get(name).compute(predictions, targets) == pytest.approx(
        TWINS[name](predictions, targets), abs=1e-12
    )


@pytest.mark.parametrize("name", VALUES)
@quick
@given(pairs=values)
def test_a_metric_of_values_equals_its_twin(name: str, pairs: list[tuple[float, float]]) -> None:
    predictions, targets = [list(column) for column in zip(*pairs, strict=True)]
    assert METRICS.get(name).compute(predictions, targets) == pytest.approx(TWINS[name](predictions, targets), abs=1e-9)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_declares_what_it_is_for_and_has_a_twin(name: str) -> None:
    metric = METRICS.get(name)
    assert metric.kinds
    assert metric.higher_is_better
    assert name in (TWINS if metric.worth is None else TEXT_TWINS)
    assert (metric.worth is not None) == ("generation" in metric.kinds)


@pytest.mark.parametrize("name", TWINS)
def test_perfect_predictions_score_one(name: str) -> None:
    assert METRICS.get(name).compute([0, 1, 1, 0], [0, 1, 1, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["mcc", "pearson", "spearman"])
@pytest.mark.parametrize("side", ["predictions", "targets", "both"])
def test_a_constant_side_scores_zero_without_a_warning(name: str, side: str) -> None:
    constant, other = [1, 1, 1], [0, 1, 2]
    predictions = other if side == "targets" else constant
    targets = other if side == "predictions" else constant
    assert METRICS.get(name).compute(predictions, targets) == 0.0


def test_f1_is_zero_where_nobody_names_label_one() -> None:
    assert METRICS.get("f1").compute([0, 0], [0, 0]) == 0.0


def test_nearly_constant_predictions_are_scored_without_a_warning() -> None:
    assert METRICS.get("pearson").compute([1.0, np.nextafter(1.0, 2.0), 1.0], [0.0, 1.0, 0.0]) == pytest.approx(1.0)


def test_several_metrics_come_in_the_order_asked_for() -> None:
    assert list(compute(("f1", "accuracy"), [0, 1], [1, 1])) == ["f1", "accuracy"]


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        compute(["acuracy"], [0], [0])


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([], [], "no examples to score"),
        ([0, 1], [0], "2 predictions for 1 targets"),
        ([0, math.nan], [0, 1], "of the predictions, number 1 is not finite"),
        ([0, 1], [math.inf, 1], "of the targets, number 0 is not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(predictions: list[float], targets: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(["accuracy"], predictions, targets)
