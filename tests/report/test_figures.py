from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from report import made
from runs.records import record
from shoestring.errors import UnknownNameError
from shoestring.report.figures import (
    cost_figure,
    curve_figure,
    has_scaling,
    over_passes,
    scaling_figure,
    thinned,
)
from shoestring.report.rows import labels
from shoestring.report.series import COSTS, Figure, Line, Point
from shoestring.runs.record import Record
from shoestring.tables.table import Layout, arrange, tabulate

SEEDS = (13, 21, 42)


def three(*values: float, **settings: Any) -> list[Record]:
    return [record(value, seed=seed, **settings) for seed, value in zip(SEEDS, values, strict=False)]


def points(figure: Figure, label: str, panel: int = 0) -> tuple[Point, ...]:
    return next(series.points for series in figure.panels[panel].series if series.label == label)


# -- points


def test_a_point_of_a_cell_is_the_cell_of_the_table_over_its_mean_cost() -> None:
    runs = three(0.6, 0.7, 0.8) + three(0.9, 0.8, 1.0, method="adam")
    table, found = tabulate(runs), arrange(runs)
    for axis in COSTS.values():
        figure = cost_figure(found, axis)
        for at, series in enumerate(figure.panels[0].series):
            (point,) = series.points
            assert (point.y, point.sd, point.n) == table.rows[at][2].values
    assert points(cost_figure(found, COSTS["forward-passes"]), "mezo")[0].x == 16000
    assert points(cost_figure(found, COSTS["seconds"]), "mezo")[0].x == table.rows[0][5].values[0]
    assert points(cost_figure(found, COSTS["memory"]), "adam")[0].x == 1000 * (1 << 16) / (1 << 20)
    assert points(cost_figure(found, COSTS["weights"]), "adam")[0].x == table.rows[1][7].values[0]


def test_seeds_that_count_are_those_that_were_best_on_dev() -> None:
    runs = [record(0.9, dev=0.1, method__lr=1e-6), record(0.2, dev=0.9, method__lr=1e-5)]
    (point,) = points(cost_figure(arrange(runs), COSTS["weights"]), "mezo")
    assert (point.y, point.sd, point.n) == (0.2, None, 1)


def test_every_test_set_and_task_has_a_panel_and_a_row_without_results_there_no_series() -> None:
    runs = [record({"test": 0.5, "test-mismatched": 0.4}, task="MNLI"), record(0.7, method="adam")]
    figure = cost_figure(arrange(runs), COSTS["weights"])
    assert [panel.title for panel in figure.panels] == ["MNLI", "MNLI test-mismatched", "SST-2"]
    assert [[series.label for series in panel.series] for panel in figure.panels] == [["mezo"], ["mezo"], ["adam"]]
    assert [panel.scale for panel in figure.panels] == [100, 100, 100]


def test_a_loss_is_shown_as_it_is() -> None:
    figure = cost_figure(arrange([record()], Layout(metric="loss")), COSTS["weights"])
    assert (figure.panels[0].scale, figure.panels[0].y) == (1, "loss on test")


def test_a_record_without_a_cost_has_no_point() -> None:
    bare = record().model_copy(update={"passes": None, "memory": None, "weights": None, "seconds": {}})
    for axis in COSTS.values():
        assert cost_figure(arrange([bare]), axis).panels[0].series == ()


def test_rows_are_called_by_what_tells_them_apart() -> None:
    assert list(labels(arrange([record(), record(method="adam")])).values()) == ["mezo", "adam"]
    assert list(labels(arrange([record()])).values()) == ["mezo"]
    two = [record(), record(model__name="models/other")]
    assert list(labels(arrange(two)).values()) == ["minilm-mlm", "other"]


def test_rows_know_whether_they_go_backward() -> None:
    figure = cost_figure(arrange([record(), record(method="adam")]), COSTS["weights"])
    assert [series.backward for series in figure.panels[0].series] == [False, True]


# -- lines over numbers of trained weights


def lora(r: int, trained: int, test: float, *, dev: float = 0.5, **settings: Any) -> Record:
    run = record(test, dev=dev, method="adam", tuning={"kind": "lora", "r": r}, **settings)
    assert run.weights is not None
    return run.model_copy(update={"weights": run.weights.model_copy(update={"trained": trained})})


def test_a_line_has_a_point_for_each_number_of_trained_weights_with_the_spread_over_seeds() -> None:
    runs = [lora(r, 100 * r, 0.1 * r + seed / 1000, seed=seed) for r in (1, 4) for seed in SEEDS]
    found = arrange(runs)
    assert has_scaling(found)
    line = points(scaling_figure(found), "adam + lora")
    for point, r in zip(line, (1, 4), strict=True):
        values = [0.1 * r + seed / 1000 for seed in SEEDS]
        assert point == Point(100 * r, statistics.fmean(values), statistics.pstdev(values), 3)


def test_of_trials_with_as_many_weights_each_seed_counts_the_best_on_dev() -> None:
    runs = [lora(1, 100, 0.9, dev=0.1, method__lr=1e-3), lora(1, 100, 0.3, dev=0.8, method__lr=1e-2), lora(4, 400, 0.5)]
    line = points(scaling_figure(arrange(runs)), "adam + lora")
    assert [(point.x, point.y) for point in line] == [(100, 0.3), (400, 0.5)]


def test_one_number_of_weights_is_nothing_to_scale() -> None:
    assert not has_scaling(arrange([lora(1, 100, 0.5), lora(1, 100, 0.6, seed=21), record()]))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("chance", Line("chance", 0.5)),
        ("91.4", Line("91.4", 0.914)),
        ("full=80", Line("full", 0.8)),
        ("adam", Line("adam", 0.7, 0.1)),
    ],
)
def test_a_line_to_compare_with_is_chance_a_number_or_a_row(text: str, line: Line) -> None:
    runs = [record(0.6, method="adam"), record(0.8, method="adam", seed=21), lora(1, 100, 0.5)]
    (found,) = scaling_figure(arrange(runs), lines=[text]).panels[0].lines
    assert (found.label, found.y, found.sd) == (line.label, pytest.approx(line.y), pytest.approx(line.sd))


def test_chance_is_one_out_of_so_many_labels_and_not_known_of_anything_but_accuracy() -> None:
    runs = [record(task="trec"), record(task="STS-B"), record(task="CoLA")]
    lines = [panel.lines for panel in cost_figure(arrange(runs), COSTS["weights"], ["chance"]).panels]
    assert lines == [(), (), (Line("chance", 1 / 6),)]


def test_a_line_that_nobody_knows_names_the_nearest_row() -> None:
    with pytest.raises(UnknownNameError, match="unknown line 'mezzo'; did you mean 'mezo'"):
        scaling_figure(arrange([record(), record(method="adam")]), lines=["mezzo"])


def test_a_row_whose_name_ends_in_a_number_is_a_row() -> None:
    runs = [record(0.6, method__lr=1e-6), record(0.8, method__lr=1e-5)]
    found = arrange(runs, Layout(every_trial=True))
    (name,) = [name for name in labels(found).values() if name.endswith("1e-05")]
    assert cost_figure(found, COSTS["weights"], [name]).panels[0].lines == (Line(name, 0.8),)


# -- curves


def test_a_curve_is_the_mean_over_seeds_at_the_steps_that_all_have(tmp_path: Path) -> None:
    for seed, top, steps in ((13, 0.8, 40), (21, 0.6, 30)):
        made.put(tmp_path, record(seed=seed), curve=made.curve(steps, 10, top))
    logs = made.logs(tmp_path)
    found = arrange(logs.found.records)
    curve = points(curve_figure(found, logs.curve), "mezo")
    assert [point.x for point in curve] == [10, 20, 30]
    values = [0.8 * 10 / 40, 0.6 * 10 / 30]
    assert curve[0] == Point(10, statistics.fmean(values), statistics.pstdev(values), 2)
    losses = points(curve_figure(found, logs.curve, "loss"), "mezo")
    assert [point.y for point in losses] == [0.2, 0.1, pytest.approx(2 / 30)]
    assert [point.y for point in points(curve_figure(found, logs.curve, "train-loss"), "mezo")][:2] == [0.1, 0.05]


def test_seeds_without_a_step_in_common_are_named(tmp_path: Path) -> None:
    made.put(tmp_path, record(seed=13), curve=made.curve(40, 20, 0.8))
    made.put(tmp_path, record(seed=21), curve=made.curve(30, 15, 0.8))
    logs = made.logs(tmp_path)
    figure = curve_figure(arrange(logs.found.records), logs.curve)
    assert figure.notes == ("mezo, SST-2: the seeds have no step in common",)
    assert figure.panels[0].series == ()


def test_a_run_without_a_log_and_torn_lines_and_numbers_that_are_none_make_no_points(tmp_path: Path) -> None:
    run = made.put(tmp_path, record())
    path = tmp_path / run.run_id / "metrics.jsonl"
    logs = made.logs(tmp_path)
    assert logs.curve(logs.found.records[0], "accuracy") == []
    lines = [
        '{"step": 2, "eval_accuracy": 0.5}', '{"step": 1, "eval_accuracy": 0.1}', '{"step": 3, "eval_accuracy": NaN}',
        '{"step": 4, "eval_accuracy": "x"}', "[1]", '{"step": 2, "eval_accuracy": 0.6}', '{"step": 5, "eval_acc',
    ]  # fmt: skip
    path.write_text("\n".join(lines))
    logs = made.logs(tmp_path)
    assert logs.curve(logs.found.records[0], "accuracy") == [(1.0, 0.1), (2.0, 0.6)]


def test_what_a_method_logs_of_settings_it_tries_is_no_curve(tmp_path: Path) -> None:
    made.put(
        tmp_path, record(), curve=[{"step": 1, "c": 0.1, "loss": 0.7, "accuracy": 0.5}, {"step": 2, "dev_loss": 1}]
    )
    logs = made.logs(tmp_path)
    for metric in ("accuracy", "loss", "train-loss"):
        assert logs.curve(logs.found.records[0], metric) == []


def test_over_passes_steps_are_as_long_as_the_passes_they_make(tmp_path: Path) -> None:
    run = record().model_copy(update={"facts": {"steps": 40}})
    made.put(tmp_path, run, curve=made.curve(40, 10, 0.8))
    logs = made.logs(tmp_path)
    figure = over_passes(curve_figure(arrange(logs.found.records), logs.curve))
    assert [point.x for point in points(figure, "mezo")] == [4000, 8000, 12000, 16000]


def test_long_curves_keep_their_last_step() -> None:
    steps = [float(step) for step in range(1, 1002)]
    kept = thinned(steps)
    assert len(kept) <= 200
    assert kept[-1] == 1001
    assert thinned(steps[:150]) == steps[:150]
