from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from runs.records import record
from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.runs.record import PREDICTIONS, Record, SplitSizes, write_record
from shoestring.tables.comparing import Comparison, compare_runs
from shoestring.tables.selecting import select
from shoestring.tables.significance import paired

ROWS = [("test:0", "1", "1"), ("test:1", "0", "1"), ("test:2", "1", "0"), ("test:3", "0", "0")]


def write(root: Path, run: Record, answers: list[tuple[str, str, str]] = ROWS) -> Path:
    place = root / run.run_id
    place.mkdir(parents=True)
    write_record(place, run)
    rows = [
        {"split": "test", "uid": uid, "label": gold, "prediction": said, "scores": []} for uid, gold, said in answers
    ]
    rows.append({"split": "dev", "uid": "train:0", "label": "1", "prediction": "1", "scores": []})
    (place / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def drawn(run: Record, digest: str) -> Record:
    return run.model_copy(update={"split": SplitSizes(digest=digest, train=1, dev=1, tests={}, truncated=0)})


def compared(a: object, b: object) -> Comparison:
    return compare_runs(select(str(a)), select(str(b)))


def keys(found: Comparison) -> dict[str, tuple[Any, Any]]:
    return {one.key: (one.a, one.b) for one in found.differences}


def test_two_runs_differ_in_settings_results_and_costs(tmp_path: Path) -> None:
    a = write(tmp_path, record(0.5, method="mezo"))
    b = write(tmp_path, record(0.75, method="adam", method__lr=1e-3))
    found = compared(a, b)
    assert keys(found)["method.kind"] == (("mezo",), ("adam",))
    assert keys(found)["method.lr"] == ((1e-6,), (1e-3,))
    assert "seed" not in keys(found)
    results = {(one.split, one.metric): (one.a, one.b) for one in found.results}
    assert results["test", "accuracy"] == ((0.5,), (0.75,))
    assert ("backward passes", 0, 1000) in found.costs
    assert keys(compared(a, a)) == {}


def test_answers_that_flipped_are_counted_one_by_one(tmp_path: Path) -> None:
    other = [
        ("test:0", "1", "0"),
        ("test:1", "0", "0"),
        ("test:2", "1", "1"),
        ("test:3", "0", "0"),
        ("test:9", "1", "1"),
    ]
    a, b = write(tmp_path, record(0.5)), write(tmp_path, record(0.75, seed=21), other)
    (flips,) = compared(a, b).flips
    assert (flips.both, flips.only_a, flips.only_b, flips.neither, flips.changed) == (1, 1, 2, 0, 3)
    assert (flips.lost, flips.gained, flips.total) == (("test:0",), ("test:1", "test:2"), 4)
    assert flips.p == binomtest(1, 3).pvalue
    assert compared(a, a).flips[0].p == 1.0


def test_answers_of_one_run_in_two_folders_are_read_from_both(tmp_path: Path) -> None:
    other = [(uid, gold, "1" if said == "0" else "0") for uid, gold, said in ROWS]
    a, b = write(tmp_path / "a", record(0.5)), write(tmp_path / "b", record(0.5), other)
    (flips,) = compared(a, b).flips
    assert (flips.both, flips.only_a, flips.only_b, flips.neither, flips.changed) == (0, 2, 2, 0, 4)
    assert compared(b, a).flips[0].lost == flips.gained
    (flips,) = compared(a.parent, b.parent).flips
    assert flips.changed == 4


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b'{"split": "test"', "line 2: the row is not JSON: Expecting ',' delimiter at column 17"),
        (b'"\xff"', "line 2: the row is not UTF-8"),
        (b"[1]", "line 2: the row is not an answer to an example"),
        (b'{"split": "test", "prediction": "1"}', "line 2: the row is not an answer to an example"),
    ],
)
def test_damaged_answers_are_named_on_either_side(side: str, damaged: bytes, message: str, tmp_path: Path) -> None:
    places = {name: write(tmp_path / name, record(0.5)) for name in "ab"}
    path = places[side] / PREDICTIONS
    first, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(first + b"\n" + damaged + b"\n" + rest)
    found = compared(places["a"], places["b"])
    assert found.flips == ()
    assert found.notes[-1] == f"answers are not compared: {path}, {message}"


def test_flipped_examples_of_several_tasks_and_seeds_say_which_they_are_of(tmp_path: Path) -> None:
    other = [("test:0", "1", "0"), *ROWS[1:]]
    for seed in (13, 21):
        write(tmp_path / "a", record(seed=seed))
        write(tmp_path / "b", record(seed=seed), other)
    (flips,) = compared(tmp_path / "a", tmp_path / "b").flips
    assert flips.lost == ("seed 13 test:0", "seed 21 test:0")
    for folder, answers in (("a", other), ("b", ROWS)):
        write(tmp_path / folder, record(seed=13, task="trec"), answers)
    (flips,) = compared(tmp_path / "a", tmp_path / "b").flips
    assert flips.lost == ("SST-2 seed 13 test:0", "SST-2 seed 21 test:0")
    assert flips.gained == ("trec seed 13 test:0",)
    (flips,) = compared(f"{tmp_path / 'a'}@seed=13", f"{tmp_path / 'b'}@seed=13").flips
    assert (flips.lost, flips.gained) == (("SST-2 test:0",), ("trec test:0",))
    (flips,) = compared(f"{tmp_path / 'a'}@seed=21", f"{tmp_path / 'b'}@seed=21").flips
    assert flips.lost == ("test:0",)


def test_a_trial_that_dev_did_not_choose_is_counted_also_where_the_other_side_compares_its_copy(tmp_path: Path) -> None:
    for folder, rate in (("a", 1e-6), ("a", 1e-5), ("b", 1e-6)):
        write(tmp_path / folder, record(dev=0.9 if rate == 1e-5 else 0.1, method__lr=rate))
    notes = compared(tmp_path / "a", tmp_path / "b").notes
    assert "1 run is not compared: dev chose another trial, or there is no partner" in notes


def test_answers_to_other_questions_and_values_are_no_flips(tmp_path: Path) -> None:
    place = write(tmp_path, record(0.5))
    other = write(
        tmp_path, record(0.5, seed=21), [(uid, "1" if gold == "0" else "0", said) for uid, gold, said in ROWS]
    )
    assert compared(place, other).flips == ()
    assert compared(place, other).notes[-1] == (
        "answers on test are not compared where the test sets are others: test:0 has another right answer"
    )
    several = {"split": "test", "uid": "test:0", "golds": ["a", "b"], "prediction": "b", "scores": []}
    value = {"split": "test", "uid": "test:1", "label": 2.5, "prediction": 2.0, "scores": []}
    (place / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (several, value)))
    (flips,) = compared(place, place).flips
    assert (flips.both, flips.total) == (1, 1)
    (place / "predictions.jsonl").unlink()
    assert any("answers are not compared" in note for note in compared(place, place).notes)


def test_answers_to_another_test_set_are_no_flips_where_a_right_answer_is_the_same_by_chance(tmp_path: Path) -> None:
    a = write(tmp_path / "a", record(0.5))
    b = write(tmp_path / "b", record(0.5), [("test:0", "1", "0"), ("test:1", "1", "0"), ("test:2", "1", "0")])
    assert compared(a, b).flips == ()


def test_groups_are_compared_seed_by_seed_with_the_trials_that_dev_chose(tmp_path: Path) -> None:
    for seed, mezo, adam in ((13, 0.5, 0.7), (21, 0.6, 0.65), (42, 0.55, 0.7)):
        write(tmp_path, record(mezo, dev=0.9, seed=seed))
        write(tmp_path, record(0.99, dev=0.1, seed=seed, method__lr=1e-5))
        write(tmp_path, record(adam, seed=seed, method="adam", method__lr=1e-3))
    write(tmp_path, record(0.9, seed=87))
    found = compared(f"{tmp_path}@method=mezo", f"{tmp_path}@method=adam")
    (test,) = [one for one in found.results if (one.split, one.metric) == ("test", "accuracy")]
    assert (test.a, test.b, test.seeds) == ((0.5, 0.6, 0.55), (0.7, 0.65, 0.7), (13, 21, 42))
    assert test.test == paired(test.b, test.a)
    assert keys(found)["method.lr"] == ((1e-6, 1e-5), (1e-3,))
    assert found.notes == (
        "seeds 13, 21, 42",
        "4 runs are not compared: dev chose another trial, or there is no partner",
    )
    (flips,) = found.flips
    assert (flips.both, flips.total, flips.p) == (6, 12, None)


def test_splits_that_are_the_same_or_others_are_told(tmp_path: Path) -> None:
    a, b = write(tmp_path, drawn(record(), "x")), write(tmp_path, drawn(record(seed=21), "y"))
    assert "the splits are the same" in compared(a, a).notes
    assert "not the same splits: SST-2 seed 13" in compared(a, b).notes


def test_machines_and_versions_that_differ_are_told(tmp_path: Path) -> None:
    runs = [
        run.model_copy(update={"environment": {"device": "cpu", "packages": {"torch": version}}})
        for run, version in ((record(), "2.6"), (record(seed=21), "2.7"))
    ]
    found = compared(*(write(tmp_path, run) for run in runs))
    assert [(one.key, one.a, one.b) for one in found.environments] == [("torch", ("2.6",), ("2.7",))]


def test_a_group_of_two_methods_and_sides_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    for seed in (13, 21):
        write(tmp_path, record(seed=seed))
        write(tmp_path, record(seed=seed, method="adam"))
    with pytest.raises(RunFolderError, match=r"differ in method.kind \(adam, mezo\), so they are not trials of one"):
        compared(tmp_path, tmp_path)
    with pytest.raises(RunFolderError, match=r"choose with \S*@method.kind=\.\.\.$"):
        compared(tmp_path, tmp_path)
    with pytest.raises(RunFolderError, match=r"choose with \S*@model.kind=masked,method.kind=\.\.\.$"):
        compared(f"{tmp_path}@model.kind=masked", tmp_path)
    write(tmp_path, record(seed=13, method__lr=1e-4))
    with pytest.raises(RunFolderError, match="have no task and seed in common: SST-2 seed 13; SST-2 seed 21"):
        compared(f"{tmp_path}@seed=13,method=mezo", f"{tmp_path}@seed=21,method=mezo")


def test_a_group_of_another_method_for_each_seed_is_refused(tmp_path: Path) -> None:
    for seed, method in ((13, "mezo"), (21, "adam")):
        write(tmp_path / "a", record(0.5, method=method, seed=seed))
        write(tmp_path / "b", record(0.5, method="zero-shot", seed=seed))
    with pytest.raises(RunFolderError, match=r"runs on SST-2 differ in method.kind \(adam, mezo\)"):
        compared(tmp_path / "a", tmp_path / "b")


def test_a_group_may_name_one_folder_of_a_model_by_two_paths(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for seed, name in ((13, tmp_path / "model"), (21, tmp_path / "a" / ".." / "model")):
        run = record(0.5, seed=seed, model__name=str(name)).model_copy(update={"model_fingerprint": "one"})
        write(tmp_path / "a", run)
        write(tmp_path / "b", record(0.5, method="zero-shot", seed=seed))
    assert compared(tmp_path / "a", tmp_path / "b").notes[0] == "seeds 13, 21"


def test_runs_are_selected_by_keys(tmp_path: Path) -> None:
    for rate in (1e-6, 1e-5):
        write(tmp_path, record(method__lr=rate))
    write(tmp_path, record(status="failed", error="x", seed=21))
    assert [run.config["method"]["lr"] for run in select(f"{tmp_path}@method.lr=1e-5,method=mezo").records] == [1e-5]
    assert len(select(str(tmp_path)).records) == 2
    with pytest.raises(
        RunFolderError, match=r"none of the 3 runs there has finished and is meant: method.lr is 1e-05, 1e-06"
    ):
        select(f"{tmp_path}@method.lr=3")
    with pytest.raises(UnknownNameError, match="unknown key 'metod'; did you mean 'method'"):
        select(f"{tmp_path}@metod=mezo")
    with pytest.raises(RunFolderError, match=r"@method: 'method' is not of the form KEY=VALUE$"):
        select(f"{tmp_path}@method")
    mail = tmp_path / "a@b=c"
    write(mail, record())
    assert len(select(str(mail)).records) == 1


def test_a_value_with_commas_selects_as_it_is_shown(tmp_path: Path) -> None:
    for columns in (["a", "b"], ["a"]):
        write(tmp_path, record(data__text_columns=columns))
    (run,) = select(f'{tmp_path}@data.text_columns=["a", "b"],method=mezo').records
    assert run.config["data"]["text_columns"] == ["a", "b"]
    with pytest.raises(RunFolderError, match=r"none of the 2 runs there .* is meant: method.kind is mezo$"):
        select(f"{tmp_path}@method=mezo,adam")


def test_runs_without_answers_and_folders_without_records_say_so(tmp_path: Path) -> None:
    place = write(tmp_path / "runs", record())
    (place / PREDICTIONS).unlink(missing_ok=True)
    assert any(f"{place / PREDICTIONS}: cannot be read: No such" in note for note in compared(place, place).notes)
    (tmp_path / "begun").mkdir()
    for name in ("config.json", ".lock"):
        (tmp_path / "begun" / name).write_text("{}")
    with pytest.raises(RunFolderError, match=r"begun: no run there has ended$"):
        select(str(tmp_path / "begun"))
