from __future__ import annotations

from pathlib import Path

import pytest

from runs.records import of_config
from shoestring.runs.record import Record
from shoestring.studies.against import compare, slots_of
from shoestring.studies.study import Study, Trial, load_study
from shoestring.tables.table import TableData

RECIPE = """
task = "SST-2"
data.source = "data"
model = { kind = "masked", name = "roberta-large" }

[method]
kind = "mezo"
steps = 100

[study]
title = "Two methods"
seeds = [13, 21]

[study.over]
task = ["SST-2", "trec"]
"method.lr" = [1e-6, 1e-5]

[[study.variants]]
name = "MeZO"

[[study.variants]]
name = "four directions"
set = { method = { samples = 4, steps = 25 } }

[[study.variants]]
name = "zero-shot"
set = { method = { kind = "zero-shot" } }

[[study.published]]
source = "Someone 2020, table 1"
variant = "MeZO"
metric = "accuracy"
values = { SST-2 = [70.0, 2.0], trec = [50.0, 1.0] }

[[study.published]]
source = "Someone 2020, table 2"
variant = "zero-shot"
metric = "accuracy"
values = { trec = 32.0 }
"""

OWN_TASK = """
name = "questions"
sentences = ["question"]
labels = [{ name = "who", word = "person" }, { name = "where", word = "place" }]
templates.default.masked = "*cls**sent_0*_It_asks_for_a*mask*.*sep+*"
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "two.toml"
    path.write_text(RECIPE)
    return load_study(path)


def trials(study: Study, variant: str, task: str) -> list[Trial]:
    return [trial for trial in study.trials() if (trial.variant, trial.config.task.name) == (variant, task)]


def made(study: Study, variant: str, task: str, *tests: float) -> list[Record]:
    return [of_config(t.config, test) for t, test in zip(trials(study, variant, task), tests, strict=False)]


def cells(table: TableData, row: str) -> list[str]:
    (found,) = [cells for cells in table.rows if cells[0].text == row]
    return [cell.text for cell in found[1:]]


def test_ours_stands_beside_theirs_with_a_mark(study: Study) -> None:
    # The first two trials of a task are the seeds of the first learning rate.
    runs = made(study, "MeZO", "SST-2", 0.71, 0.73) + made(study, "MeZO", "trec", 0.4, 0.5)
    runs += made(study, "zero-shot", "trec", 0.33, 0.33)
    table = compare(study, runs, with_costs=False)
    assert [column.head for column in table.columns] == ["variant", "SST-2", "published", "trec", "published"]
    assert cells(table, "MeZO") == ["72.0 (1.0, 2)", "70.0 (2.0) =", "45.0 (5.0, 2)", "50.0 (1.0) <"]
    assert cells(table, "zero-shot") == ["–", "–", "33.0 (0.0, 2)", "32.0"]  # noqa: RUF001
    assert table.rows[0][2].values == (pytest.approx(0.7), pytest.approx(0.02), True)
    assert table.rows[0][4].values[2] is False
    assert "of 2 cells that can be compared, ours is within in 1" in table.notes
    assert {"Someone 2020, table 1", "Someone 2020, table 2"} <= {*table.notes}


@pytest.mark.parametrize(("ours", "mark"), [(0.72, "="), (0.68, "="), (0.7201, ">"), (0.6799, "<")])
def test_the_mark_is_about_one_deviation_of_theirs(study: Study, ours: float, mark: str) -> None:
    table = compare(study, made(study, "MeZO", "SST-2", ours, ours))
    assert cells(table, "MeZO")[1] == f"70.0 (2.0) {mark}"


def test_each_seed_counts_the_trial_best_on_dev(study: Study) -> None:
    mine = trials(study, "MeZO", "SST-2")
    runs = [
        of_config(t.config, 0.9 if t.settings["method.lr"] == 1e-6 else 0.6, dev=t.settings["method.lr"]) for t in mine
    ]
    assert cells(compare(study, runs), "MeZO")[0] == "60.0 (0.0, 2)"


def test_variants_that_dev_would_choose_among_are_told_apart_by_what_they_fix(study: Study) -> None:
    runs = made(study, "MeZO", "SST-2", 0.7, 0.7) + made(study, "four directions", "SST-2", 0.6, 0.6)
    table = compare(study, runs)
    assert cells(table, "MeZO")[0] == "70.0 (0.0, 2)"
    assert cells(table, "four directions")[0] == "60.0 (0.0, 2)"
    (slot,) = [slot for slot in slots_of(study) if slot.row == ("four directions",) and slot.column == "trec"]
    assert (slot.wanted["method.samples"], slot.wanted["method.steps"]) == (4, 25)
    assert "method.lr" not in slot.wanted


@pytest.mark.parametrize(
    "second",
    ['over = { "method.lr" = [1e-3, 1e-2] }', "set = { method = { lr = 1e-3 } }\nover = { 'method.eps' = [1] }"],
)
def test_variants_that_differ_in_what_they_sweep_alone_are_told_apart_by_it(tmp_path: Path, second: str) -> None:
    path = tmp_path / "grids.toml"
    body = RECIPE.partition("[study]")[0]
    path.write_text(f"""{body}[study]
[[study.variants]]
name = "low"
over = {{ "method.lr" = [1e-6, 1e-5] }}
[[study.variants]]
name = "high"
{second}
""")
    mine = load_study(path)
    runs = [
        of_config(trial.config, 0.6 if trial.variant == "low" else 0.8, dev=0.6 if trial.variant == "low" else 0.8)
        for trial in mine.trials()
    ]
    table = compare(mine, runs, with_costs=False)
    assert [row[1].text for row in table.rows] == ["60.0 (–, 1)", "80.0 (–, 1)"]  # noqa: RUF001
    assert not [note for note in table.notes if "missing" in note or "none of the recipe's" in note]


def test_missing_cells_are_named_with_the_command_that_makes_them(study: Study) -> None:
    runs = [run for task in ("SST-2", "trec") for run in made(study, "zero-shot", task, 0.5, 0.5)]
    runs += made(study, "four directions", "SST-2", 0.5, 0.5) + made(study, "MeZO", "SST-2", 0.5, 0.5)
    runs += made(study, "four directions", "trec", 0.5)
    notes = compare(study, runs).notes
    assert "missing: MeZO in trec" in notes
    assert "missing: seed 21 of four directions in trec" in notes
    assert notes[notes.index("missing: seed 21 of four directions in trec") + 1] == (
        f"  shoestring sweep {study.source} --over task=trec"
    )
    assert "9 of the recipe's 20 runs are there" in notes
    only = [run for run in made(study, "MeZO", "SST-2", 0.5, 0.5) if run.config["seed"] == 13]
    assert "missing: seed 21 of MeZO in SST-2" in compare(study, only).notes
    assert "missing: zero-shot" in compare(study, only).notes


def test_a_command_names_no_columns_by_what_the_sweep_does_not_call_them(study: Study, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN_TASK)
    path = tmp_path / "two.toml"
    path.write_text(RECIPE.replace('task = ["SST-2", "trec"]', 'task = ["SST-2", "./own.toml"]'))
    mine = load_study(path)
    done = [of_config(config) for config in mine.configs() if config.task.name == "SST-2"]
    notes = compare(mine, done).notes
    assert "missing: MeZO in questions" in notes
    assert any(note.endswith(f"shoestring sweep {mine.source}") for note in notes)


def test_seeds_that_alone_are_missing_stand_in_the_command(study: Study) -> None:
    runs = [of_config(trial.config) for trial in study.trials() if trial.seed == 13]
    assert any(note.endswith(f"shoestring sweep {study.source} --seeds 21") for note in compare(study, runs).notes)
    assert not [note for note in compare(study, map(of_config, study.configs())).notes if note.startswith("missing")]


def test_runs_of_something_else_are_told_with_what_keeps_the_nearest_apart(study: Study, tmp_path: Path) -> None:
    other = load_study(tmp_path / "two.toml", ["data.source=elsewhere"])
    runs = made(other, "MeZO", "SST-2", 0.7)
    table = compare(study, runs)
    assert cells(table, "MeZO")[0] == "–"  # noqa: RUF001
    (note,) = [note for note in table.notes if "none of the recipe's" in note]
    assert note == (
        f"1 other finished run is none of the recipe's; of run {runs[0].run_id}, the nearest, data.source is "
        "'elsewhere': its like are compared with --set data.source=elsewhere"
    )
    assert cells(compare(other, runs), "MeZO")[0] == "70.0 (–, 1)"  # noqa: RUF001


def test_a_setting_that_an_early_record_does_not_have_is_no_difference(study: Study) -> None:
    (run, *_) = made(study, "MeZO", "SST-2", 0.7)
    data = {key: value for key, value in run.config["data"].items() if key != "per_example"}
    early = run.model_copy(update={"config": {**run.config, "data": data}})
    assert cells(compare(study, [early]), "MeZO")[0] == "70.0 (–, 1)"  # noqa: RUF001


def test_a_recipe_without_numbers_or_variants_is_a_table_of_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text(RECIPE.partition("[study]")[0] + "[study]\nover = { task = ['SST-2'], 'data.k' = [8, 16] }\n")
    study = load_study(path)
    table = compare(study, [of_config(study.trials()[0].config, 0.6)], with_costs=False)
    assert [column.head for column in table.columns] == ["recipe", "k", "SST-2", "published"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["plain", "8", "60.0 (–, 1)", "–"],  # noqa: RUF001
        ["plain", "16", "–", "–"],  # noqa: RUF001
    ]


def test_failed_runs_and_those_of_other_seeds_are_told(study: Study, tmp_path: Path) -> None:
    (bad, other) = made(study, "MeZO", "SST-2", 0.7, 0.7)
    failed = bad.model_copy(update={"status": "failed", "error": "the loss is nan"})
    notes = compare(load_study(tmp_path / "two.toml", seeds=[13]), [failed, other]).notes
    assert "1 failed run is not in the table:" in notes
    assert "left out, not being among the seeds asked for: 21" in notes


def test_sections_that_are_swept_whole_have_cells_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text("""
task = "SST-2"
data.source = "data"
model = { kind = "masked", name = "roberta-large" }
[study.over]
method = [{ kind = "mezo", steps = 5 }, { kind = "mezo", steps = 10 }, { kind = "zero-shot" }]
""")
    study = load_study(path)
    kinds = [(slot.row[1:], slot.wanted["method.kind"]) for slot in slots_of(study)]
    assert kinds == [(("mezo",), "mezo"), (("zero-shot",), "zero-shot")]
    records = [
        of_config(trial.config, test, dev=dev)
        for trial, test, dev in zip(study.trials(), (0.6, 0.7, 0.5), (0.8, 0.7, 0.5), strict=True)
    ]
    assert [row[2].text.split()[0] for row in compare(study, records).rows] == ["60.0", "50.0"]


def test_settings_within_a_setting_tell_cells_apart(tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text("""
task = "mezo/SST2"
data.source = "data"
model = { kind = "causal", name = "opt" }
method = { kind = "in-context" }
prompt.demonstrations.kind = "in-context"
[study.over]
"prompt.demonstrations.count" = [4, 8]
""")
    study = load_study(path)
    assert [slot.row[1:] for slot in slots_of(study)] == [("4",), ("8",)]
    records = [of_config(trial.config, test) for trial, test in zip(study.trials(), (0.6, 0.7), strict=True)]
    assert [row[2].text.split()[0] for row in compare(study, records).rows] == ["60.0", "70.0"]


def test_published_numbers_of_no_cell_are_told(tmp_path: Path) -> None:
    path = tmp_path / "misspelt.toml"
    path.write_text(RECIPE.replace("SST-2 = [70.0, 2.0]", "SST2 = [70.0, 2.0]"))
    assert "published, but no cell here: SST2 of MeZO" in compare(load_study(path), []).notes


def test_one_cell_is_one_cell(study: Study) -> None:
    notes = compare(study, made(study, "MeZO", "SST-2", 0.7, 0.7)).notes
    assert "of 1 cell that can be compared, ours is within in 1" in notes
