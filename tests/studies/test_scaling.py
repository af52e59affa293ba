"""How many weights it takes, against counting by hand."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from runs.records import record
from shoestring.errors import RunFolderError
from shoestring.runs.record import Record, Weights
from shoestring.studies.scaling import layout_of, scaling_table, thresholds
from shoestring.tables.arranging import arrange
from shoestring.tables.formats import as_text

SEEDS = (13, 21, 42)
LORA = {1: (0.45, 0.50, 0.55), 8: (0.62, 0.66, 0.70), 64: (0.80, 0.84, 0.88), 256: (0.86, 0.90, 0.91)}
FULL = (0.80, 0.90, 1.00)


def run(value: float, weights: int, tuning: dict[str, Any], total: int = 1000, **settings: Any) -> Record:
    made = record(value, **{"method__kind": "adam", **settings, **{f"tuning__{k}": v for k, v in tuning.items()}})
    return made.model_copy(update={"weights": Weights(total=total, trained=weights)})


def study(model: str = "roberta-base", total: int = 1000, **more: Any) -> list[Record]:
    found = [
        run(value, size, {"kind": "lora", "r": size}, total, seed=seed, model__name=model, **more)
        for size, values in LORA.items()
        for seed, value in zip(SEEDS, values, strict=True)
    ]
    found += [
        run(value, total, {"kind": "full"}, total, seed=seed, model__name=model, **more)
        for seed, value in zip(SEEDS, FULL, strict=True)
    ]
    return [*found, record(0.7, method__kind="zero-shot", seed=13, model__name=model)]


def test_thresholds_are_what_counting_by_hand_finds() -> None:
    (one,) = thresholds(arrange(study(), layout_of()))
    assert [(size.weights, size.seeds) for size in one.sizes] == [(size, 3) for size in LORA]
    for size in one.sizes:
        values = LORA[size.weights]
        assert size.mean == pytest.approx(statistics.fmean(values))
        assert size.sd == pytest.approx(statistics.pstdev(values))
    beat = [n for n, values in LORA.items() if statistics.fmean(values) - statistics.pstdev(values) > 0.5]
    least = statistics.fmean(FULL) - statistics.pstdev(FULL)
    same = [n for n, values in LORA.items() if statistics.fmean(values) >= least]
    assert one.chance == (0.5, beat[0]) == (0.5, 8)
    assert one.full == ((pytest.approx(0.9), pytest.approx(statistics.pstdev(FULL))), same[0])
    assert same[0] == 64


def test_of_trials_of_one_size_dev_chooses() -> None:
    worse = [
        run(0.99, 1, {"kind": "lora", "r": 1}, seed=seed, model__name="roberta-base", method__lr=0.1, dev=0.4)
        for seed in SEEDS
    ]
    (one,) = thresholds(arrange([*study(), *worse], layout_of()))
    assert one.sizes[0].mean == pytest.approx(0.5)


def test_a_table_has_small_models_first_and_says_what_was_not_reached() -> None:
    never = [run(0.5, 4, {"kind": "bitfit"}, seed=seed, model__name="roberta-base") for seed in SEEDS]
    table = scaling_table([*study("roberta-large", 2000), *study(), *never])
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["SST-2", "roberta-base", "adam", "bitfit", "4", "50.0 (0.0)", "none", "none"],
        ["SST-2", "roberta-base", "adam", "lora", "1 to 256", "89.0 (2.2)", "8", "64"],
        ["SST-2", "roberta-large", "adam", "lora", "1 to 256", "89.0 (2.2)", "8", "64"],
    ]
    assert "more than a standard deviation above chance" in as_text(table)


def test_without_full_fine_tuning_or_chance_there_is_no_such_threshold() -> None:
    only = [one for one in study() if one.config["tuning"]["kind"] == "lora"]
    (one,) = thresholds(arrange(only, layout_of()))
    assert one.full == (None, None)
    assert scaling_table(only).rows[0][-1].text == "–"  # noqa: RUF001 - as tables have it
    values = [
        run(value, size, {"kind": "lora", "r": size}, seed=seed, task="STS-B", metric="pearson")
        for size, value, seed in ((1, 0.1, 13), (1, 0.2, 21))
    ]
    (two,) = thresholds(arrange(values, layout_of()))
    assert two.chance == (None, None)


def test_runs_that_train_no_part_of_a_model_are_refused() -> None:
    with pytest.raises(RunFolderError, match=r"none of the runs trained a part of a model's weights"):
        scaling_table([record(0.7, method__kind="zero-shot")])


def test_full_fine_tuning_is_that_of_the_same_setting() -> None:
    few = study(data__k=16)
    many = [
        run(value, size, tuning, seed=seed, model__name="roberta-base", data__k=512)
        for value, size, tuning in ((0.2, 1000, {"kind": "full"}), (0.95, 8, {"kind": "lora", "r": 8}))
        for seed in SEEDS
    ]
    reached = {one.row.texts[-1]: one for one in thresholds(arrange([*many, *few], layout_of()))}
    assert reached["k=16"].full[0] == (pytest.approx(0.9), pytest.approx(statistics.pstdev(FULL)))
    assert reached["k=512"].full[0] == (pytest.approx(0.2), 0.0)
    table = scaling_table([*few, *many])
    assert [column.head for column in table.columns[:5]] == ["task", "model", "method", "tuning", "setting"]
    assert [row[4].text for row in table.rows] == ["k=16", "k=512"]


def test_one_seed_has_no_deviation_and_the_table_says_so() -> None:
    alone = [one for one in study() if one.config["seed"] == 13]
    (one,) = thresholds(arrange(alone, layout_of()))
    assert {size.sd for size in one.sizes} == {None}
    assert (one.chance, one.full) == ((0.5, 8), ((0.8, None), 64))
    table = scaling_table(alone)
    assert table.rows[0][5].text == "86.0 (–)"  # noqa: RUF001 - as tables have it
    assert table.rows[0][7].values == (0.8, None, 64)
    assert "one seed has no deviation: where it is alone, its number decides" in table.notes
    assert not [note for note in scaling_table(study()).notes if "no deviation" in note]


def test_sizes_of_fewer_seeds_than_others_are_told() -> None:
    some = [one for one in study() if one.trained_weights != 8 or one.config["seed"] == 42]
    table = scaling_table(some)
    assert table.rows[0][6].text == "8"
    assert "fewer seeds than 3: SST-2, adam, lora, roberta-base: 8 weights (1)" in table.notes


def test_rows_of_several_test_sets_are_told_apart() -> None:
    both = [
        one.model_copy(update={"metrics": {**one.metrics, "test-mismatched": {"accuracy": 0.5}}}) for one in study()
    ]
    assert [row[0].text for row in scaling_table(both).rows] == ["SST-2", "SST-2 test-mismatched"]
