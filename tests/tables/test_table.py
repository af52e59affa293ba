from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import table_twin
from runs.records import record
from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.runs.record import Record
from shoestring.tables.table import Layout, TableData, best, describe, shown, tabulate
from shoestring.tasks.metrics import METRICS, Metric

SEEDS = (13, 21, 42)


def texts(table: TableData, column: str) -> list[str]:
    heads = [one.head for one in table.columns]
    return [row[heads.index(column)].text for row in table.rows]


def three(*values: float, **settings: Any) -> list[Record]:
    return [record(value, seed=seed, **settings) for seed, value in zip(SEEDS, values, strict=False)]


# -- numbers


def test_a_cell_is_mean_population_sd_and_number_of_seeds() -> None:
    table = tabulate(three(0.6, 0.7, 0.8))
    assert texts(table, "SST-2") == ["70.0 (8.2, 3)"]  # sqrt(2/3) * 0.1; the sample sd would be 10.0
    cell = table.rows[0][2]
    assert cell.values == (pytest.approx(0.7), pytest.approx(0.0816496580927726), 3)
    assert "population standard deviation" in table.caption


def test_one_seed_has_no_spread() -> None:
    table = tabulate([record(0.6)])
    assert texts(table, "SST-2") == ["60.0 (–, 1)"]  # noqa: RUF001
    assert table.rows[0][2].values == (0.6, None, 1)


def test_each_seed_counts_the_trial_best_on_dev_whatever_its_test_says() -> None:
    runs = [
        record(0.9, dev=0.5, seed=13, method__lr=1e-6),
        record(0.6, dev=0.7, seed=13, method__lr=1e-5),
        record(0.8, dev=0.9, seed=21, method__lr=1e-6),
        record(0.9, dev=0.8, seed=21, method__lr=1e-5),
    ]
    table = tabulate(runs)
    assert texts(table, "SST-2") == ["70.0 (10.0, 2)"]
    assert "chosen on dev for each seed, out of 2 trials; tried: method.lr" in table.notes


def test_of_equals_on_dev_the_lower_dev_loss_counts_then_the_run_id() -> None:
    high, low = record(0.1, dev_loss=0.7, method__lr=1e-6), record(0.2, dev_loss=0.6, method__lr=1e-5)
    assert best([high, low], "accuracy") is low
    twins = [record(method__lr=rate) for rate in (1e-6, 1e-5, 1e-4)]
    assert best(twins, "accuracy").run_id == min(run.run_id for run in twins)


def test_trials_without_a_dev_set_come_behind_those_that_have_one() -> None:
    without, bad = record(0.9, method__lr=1e-6), record(0.1, dev=0.2, method__lr=1e-5)
    without = without.model_copy(update={"metrics": {"test": without.metrics["test"]}})
    assert best([without, bad], "accuracy") is bad
    assert best([without], "accuracy") is without
    assert texts(tabulate([without]), "SST-2") == ["90.0 (–, 1)"]  # noqa: RUF001
    assert not [note for note in tabulate([without], Layout(metric="accuracy")).notes if "accuracy" in note]


def test_a_metric_of_which_less_is_better_is_chosen_so(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = METRICS.get("accuracy")
    monkeypatch.setitem(
        METRICS._entries, "accuracy", Metric(worse.function, worse.kinds, "error", higher_is_better=False)
    )
    runs = [record(0.1, dev=0.9, method__lr=1e-6), record(0.2, dev=0.3, method__lr=1e-5)]
    assert tabulate(runs).rows[0][2].values[0] == 0.2


def test_the_loss_can_be_shown_and_is_not_scaled() -> None:
    runs = [record(0.1, dev_loss=0.9, method__lr=1e-6), record(0.2, dev_loss=0.3, method__lr=1e-5)]
    table = tabulate(runs, Layout(metric="loss"))
    assert texts(table, "SST-2") == ["0.600 (–, 1)"]  # noqa: RUF001
    assert table.caption.startswith("loss on test")
    assert best(runs, "loss") is runs[1]
    assert shown("accuracy", 0.6) == "60.0"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["SST-2", "trec"]),
            st.sampled_from(["mezo", "adam"]),
            st.sampled_from([16, 512]),
            st.sampled_from([13, 21, 42]),
            st.sampled_from([1e-6, 1e-5, 1e-4]),
            st.sampled_from([0.5, 0.6]),
            st.sampled_from([0.7, 0.8]),
            st.integers(0, 100),
            st.sampled_from(["ok", "ok", "ok", "failed"]),
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda row: row[:5],
    )
)
def test_selection_and_means_equal_the_slow_twin(rows: list[tuple]) -> None:
    records = [
        record(
            test / 100, dev=dev, dev_loss=loss, task=task, method=method, seed=seed, status=status,
            data__k=k, method__lr=lr,
        )
        for task, method, k, seed, lr, dev, loss, test, status in rows
    ]  # fmt: skip
    wanted = {cell: table_twin.chosen(records, cell) for cell in table_twin.cells(records)}
    if not wanted:
        with pytest.raises(RunFolderError, match="there is no finished run"):
            tabulate(records)
        return
    table = tabulate(records)
    heads = [column.head for column in table.columns]
    sizes = {k for _, _, k in wanted}
    found = {}
    for row in table.rows:
        k = int(row[2].text.removeprefix("k=")) if "setting" in heads else next(iter(sizes))
        for task in {task for task, _, _ in wanted}:
            mean, sd, count = row[heads.index(task)].values
            if count:
                found[task, row[1].text, k] = (mean, sd, count)
    assert found.keys() == wanted.keys()
    for cell, picked in wanted.items():
        numbers = [one.metrics["test"]["accuracy"] for one in picked.values()]
        mean, sd = table_twin.mean_and_sd(numbers)
        assert found[cell][0] == pytest.approx(mean)
        assert found[cell][1] is None if len(numbers) == 1 else found[cell][1] == pytest.approx(sd, abs=1e-12)
        assert found[cell][2] == len(numbers)


@given(st.permutations([*three(0.6, 0.7, 0.8), *three(0.5, 0.6, 0.7, method="adam"), record(0.9, data__k=512)]))
def test_the_order_of_the_records_makes_no_difference(runs: list[Record]) -> None:
    assert tabulate(runs) == tabulate(sorted(runs, key=lambda run: run.run_id))


# -- rows and columns


def test_methods_come_in_order_of_what_they_need_and_tasks_are_columns() -> None:
    runs = [record(task=task, method=method) for task in ("trec", "SST-2") for method in ("adam", "mezo", "zero-shot")]
    table = tabulate(runs)
    assert texts(table, "method") == ["zero-shot", "mezo", "adam"]
    assert [column.head for column in table.columns][:4] == ["model", "method", "SST-2", "trec"]


def test_tuning_and_objective_are_named_where_they_are_not_the_usual_ones() -> None:
    runs = [record(tuning__kind="bitfit"), record(method__objective="accuracy"), record()]
    assert texts(tabulate(runs), "method") == ["mezo", "mezo + bitfit", "mezo, accuracy"]


def test_the_kind_of_model_is_named_where_kinds_differ() -> None:
    assert texts(tabulate([record()]), "model") == ["minilm-mlm"]
    both = tabulate([record(), record(model__kind="head")])
    assert texts(both, "model") == ["minilm-mlm (head)", "minilm-mlm (masked)"]


def test_models_of_the_same_folder_name_are_told_apart() -> None:
    table = tabulate([record(model__name="a/base"), record(model__name="b/base"), record(model__name="large")])
    assert texts(table, "model") == ["a/base", "b/base", "large"]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_there(name: str, fingerprint: str | None = "one", **settings: Any) -> Record:
    return record(model__name=name, **settings).model_copy(update={"model_fingerprint": fingerprint})


def test_a_folder_that_runs_name_by_different_paths_is_one_model(in_folder: Path) -> None:
    names = ("models/base", str(in_folder / "models" / "base"), "./models/../models/base", "link")
    runs = [found_there(name, seed=seed) for seed, name in enumerate(names)]
    table = tabulate([*runs, record(model__name="large")], Layout(costs=False))
    assert texts(table, "model") == ["large", "link"]
    assert [row[2].text for row in table.rows] == ["50.0 (–, 1)", "50.0 (0.0, 4)"]  # noqa: RUF001
    assert [run.config["model"]["name"] for run in runs] == list(names)
    again = tabulate([*runs[:1], found_there(names[1], seed=0)], Layout(costs=False))
    assert texts(again, "model") == ["base"]
    assert again.notes == ("chosen on dev for each seed, out of 2 trials",)


@pytest.mark.parametrize("other", ["another", None])
def test_paths_where_runs_found_different_models_are_not_one(other: str | None, in_folder: Path) -> None:
    path = str(in_folder / "models" / "base")
    both = [found_there("models/base"), found_there(path, other)]
    assert len(tabulate(both).rows) == 2
    assert len(tabulate([*both, found_there(path, seed=21)]).rows) == 2
    assert len(tabulate([found_there("models/base", None), found_there(path, None)]).rows) == 2


def test_names_that_are_no_folder_here_stay_as_they_are(in_folder: Path) -> None:
    names = ("elsewhere/base", str(in_folder / "elsewhere" / "base"), "x" * 5000)
    assert len(tabulate([found_there(name) for name in names]).rows) == 3


@pytest.mark.parametrize(
    ("key", "one", "other", "settings"),
    [
        ("data__k", 16, 512, ["k=16", "k=512"]),
        ("data__mode", "full", "k-shot", ["mode=full", "mode=k-shot"]),
        ("data__max_test", 100, None, ["max_test=100", "–"]),  # noqa: RUF001
        ("data__source", "x/a.csv", "x/b.csv", ["source=a.csv", "source=b.csv"]),
        ("prompt__template", "first", "second", ["template=first", "template=second"]),
        ("model__dtype", "bfloat16", "float32", ["dtype=bfloat16", "dtype=float32"]),
    ],
)
def test_what_must_not_be_mixed_has_rows_of_its_own(key: str, one: Any, other: Any, settings: list[str]) -> None:
    table = tabulate([record(0.5, **{key: one}), record(0.7, **{key: other})])
    assert texts(table, "setting") == settings
    assert [row[3].values[2] for row in table.rows] == [1, 1]


def test_another_task_file_of_the_same_name_has_a_row_of_its_own() -> None:
    changed = record(0.7)
    changed.config["task"]["limits"]["max_tokens"] = 64
    reworded = record(0.9, seed=21)
    reworded.config["task"]["title"] = "reworded"
    changed = changed.model_copy(update={"run_id": "f" * 16})
    table = tabulate([record(0.5), changed, reworded])
    assert {row[3].values[2] for row in table.rows} == {1, 2}
    assert all(text.startswith("task=v1-") for text in texts(table, "setting"))


def test_tasks_may_differ_in_source_and_template_without_parting_rows() -> None:
    runs = [record(data__source="a.csv"), record(task="trec", data__source="b.csv", prompt__template="other")]
    table = tabulate(runs)
    assert "setting" not in [column.head for column in table.columns]
    assert len(table.rows) == 1


def test_long_values_are_cut_but_stay_apart() -> None:
    start = "*cls**sent_0*_It_was_a_very_long_template_indeed"
    runs = [record(prompt__template=start + end) for end in ("*mask*.", "*mask*!")]
    one, other = texts(tabulate(runs), "setting")
    assert one != other
    assert len(one) < 60


def test_every_trial_can_have_a_row() -> None:
    runs = [record(0.6, method__lr=1e-6), record(0.7, method__lr=1e-5), record(0.5, method="zero-shot")]
    table = tabulate(runs, Layout(every_trial=True))
    assert texts(table, "setting") == ["–", "lr=1e-06", "lr=1e-05"]  # noqa: RUF001
    assert not any("chosen" in note for note in table.notes)


def test_rows_may_be_told_apart_by_any_key() -> None:
    runs = [record(0.6, method__lr=1e-6), record(0.7, method__lr=1e-5)]
    table = tabulate(runs, Layout(by=("method", "method.lr")))
    assert [column.head for column in table.columns][:3] == ["method", "lr", "SST-2"]
    assert texts(table, "lr") == ["1e-06", "1e-05"]


def test_what_by_leaves_out_still_parts_rows() -> None:
    table = tabulate([record(task="SST-2"), record(task="trec")], Layout(by=("method",), columns="data.k"))
    assert texts(table, "setting") == ["task=SST-2", "task=trec"]


def test_columns_may_be_any_key_numbers_in_order() -> None:
    runs = [record(data__k=k) for k in (512, 16, 100)]
    table = tabulate(runs, Layout(columns="data.k", costs=False))
    assert [column.head for column in table.columns] == ["task", "model", "method", "k=16", "k=100", "k=512"]


def test_seeds_may_be_columns_and_then_none_is_missing() -> None:
    table = tabulate([*three(0.6, 0.7, 0.8), record(0.5, method="adam")], Layout(columns="seed", costs=False))
    assert [cell.text for cell in table.rows[0][3:]] == ["60.0", "70.0", "80.0"]
    assert table.caption == "accuracy x 100 on test"
    assert table.notes == ()


def test_further_test_sets_and_metrics_have_columns_of_their_own() -> None:
    runs = [record({"test": 0.6, "test-mismatched": 0.5}, task="MNLI"), record(0.3, task="CoLA")]
    table = tabulate(runs, Layout(costs=False))
    heads = [column.head for column in table.columns][2:]
    assert heads == ["CoLA Matthews correlation", "MNLI accuracy", "MNLI test-mismatched accuracy"]
    assert table.columns[3].csv == ("MNLI accuracy mean", "MNLI accuracy sd", "MNLI accuracy n")


def test_an_unknown_key_or_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown key 'method\.lrr'; did you mean 'method\.lr'"):
        tabulate([record()], Layout(by=("method.lrr",)))
    with pytest.raises(UnknownNameError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        tabulate([record()], Layout(metric="acuracy"))


def test_runs_without_the_metric_asked_for_are_counted() -> None:
    table = tabulate([record(), record(task="CoLA")], Layout(metric="accuracy"))
    assert "1 finished run has no accuracy" in table.notes
    assert "CoLA" not in [column.head for column in table.columns]


# -- costs


def test_costs_are_means_over_the_runs_that_count() -> None:
    table = tabulate([*three(0.6, 0.7), *three(0.6, 0.7, task="trec")])
    assert texts(table, "forward passes") == ["2,000"]
    assert texts(table, "backward passes") == ["0"]
    assert texts(table, "seconds") == ["20.0"]
    assert texts(table, "peak MiB") == ["0.1"]  # of fitting, although prediction needs more here
    assert any("wall time of fitting, with its evaluations on dev" in note for note in table.notes)
    assert texts(table, "trained weights") == ["22.0M"]
    assert table.rows[0][-2].values == (1 << 16,)


def test_zero_shot_trains_no_weights() -> None:
    assert record(method="zero-shot").trained_weights == 0
    assert record().trained_weights == 22_000_000


def test_costs_can_be_left_out() -> None:
    table = tabulate([record()], Layout(costs=False))
    assert [column.head for column in table.columns] == ["model", "method", "SST-2"]


# -- what is missing


def test_missing_seeds_are_named_with_row_and_column() -> None:
    runs = [*three(0.6, 0.7, 0.8), *three(0.6, 0.7, 0.8, task="trec"), *three(0.6, 0.7, method="adam")]
    runs += three(0.6, method="adam", task="trec")
    assert [note for note in tabulate(runs).notes if "missing" in note] == [
        "missing seeds 21, 42: minilm-mlm, adam in trec",
        "missing seed 42: minilm-mlm, adam in SST-2",
    ]


def test_the_empty_cells_of_a_row_share_a_line() -> None:
    names = ("SST-2", "trec", "mr", "cr")
    runs = [record(task=name) for name in names] + [record(task="mr", method="adam")]
    assert [note for note in tabulate(runs).notes if note.startswith("missing")] == [
        "missing: minilm-mlm, adam in cr, SST-2, trec"
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (8, []),
        (9, ["1 more line of what is missing is left out"]),
        (20, ["12 more lines of what is missing are left out"]),
    ],
)
def test_of_what_is_missing_the_first_lines_are_shown_and_others_counted(rows: int, told: list[str]) -> None:
    runs = [record(task="trec", data__k=99), *(record(data__k=k) for k in range(2, rows + 1))]
    notes = tabulate(runs, Layout(costs=False)).notes
    assert sum(note.startswith("missing: ") for note in notes) == min(rows, 8)
    assert [note for note in notes if "of what is missing" in note] == told
    seeds = [record(data__k=k) for k in range(1, rows)] + [record(seed=21, data__k=99)]
    notes = tabulate(seeds, Layout(costs=False)).notes
    assert sum(note.startswith("missing seed ") for note in notes) == min(rows, 8)
    assert [note for note in notes if "of what is missing" in note] == told


def test_seeds_asked_for_are_missed_and_others_left_out() -> None:
    table = tabulate(three(0.6, 0.7, 0.8), Layout(seeds=(13, 21, 100)))
    assert texts(table, "SST-2") == ["65.0 (5.0, 2)"]
    assert "missing seed 100: minilm-mlm, mezo" in table.notes
    assert "left out, not being among the seeds asked for: 42" in table.notes


def test_no_number_rests_on_failed_or_cancelled_runs_and_they_are_named() -> None:
    runs = [*three(0.6, 0.7), record(seed=42, status="failed", error="step 3: the loss is nan\nmore")]
    runs += [record(seed=87, status="cancelled", error="interrupted")]
    table = tabulate(runs)
    assert texts(table, "SST-2") == ["65.0 (5.0, 2)"]
    assert "1 failed and 1 cancelled runs are not in the table:" in table.notes
    shown = "\n".join(table.notes)
    assert "SST-2, minilm-mlm, mezo, seed 42, run " in shown
    assert "failed: step 3: the loss is nan\n" in shown
    assert "missing seeds 42, 87: minilm-mlm, mezo" in table.notes


def test_many_failures_are_counted_rather_than_listed() -> None:
    runs = [record(), *(record(seed=seed, status="failed") for seed in range(8))]
    assert "  and 3 more" in tabulate(runs).notes


def test_copies_of_a_run_count_once_the_latest_finished_one() -> None:
    old, new = record(0.5, finished="2025-01-01T00:00:00+00:00"), record(0.7, finished="2025-02-01T00:00:00+00:00")
    broken = record(0.5, status="failed", finished="2025-03-01T00:00:00+00:00")
    table = tabulate([new, broken, old])
    assert table.rows[0][2].values == (0.7, None, 1)
    assert "2 further copies of runs, in other folders, not counted" in table.notes


def test_without_a_finished_run_there_is_no_table() -> None:
    with pytest.raises(RunFolderError, match=r"there is no finished run to make a table of$"):
        tabulate([])
    with pytest.raises(RunFolderError, match=r"seed 13, run .*: failed: disk full"):
        tabulate([record(status="failed", error="disk full")])
    with pytest.raises(RunFolderError, match="no run has one of the seeds 7; there are: 13"):
        tabulate([record()], Layout(seeds=(7,)))


def test_a_run_is_described_in_one_line() -> None:
    assert describe(record()).startswith("SST-2, minilm-mlm, mezo, seed 13, run ")
