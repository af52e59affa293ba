from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from report import made
from runs.records import record
from shoestring.report.answers import Examples, confusion
from shoestring.report.logs import softmax
from shoestring.tasks.load import load_task
from shoestring.tasks.metrics import compute

Row = dict[str, Any]


def task(name: str = "SST-2") -> Row:
    return load_task(name).model_dump(mode="json")


def said(label: str, prediction: str, scores: list[float] | None = None, **more: Any) -> Row:
    row = {"split": "test", "uid": "test:0", "label": label, "prediction": prediction}
    return row | ({} if scores is None else {"scores": scores}) | more


# -- classes


def test_a_confusion_counts_predictions_of_all_seeds_and_agrees_with_the_metric() -> None:
    runs = [made.predictions(["0", "1"], 0.8, seed) for seed in (13, 21)]
    found = confusion(task(), runs)
    assert found is not None
    assert found.runs == 2
    assert sum(map(sum, found.counts)) == 48
    rows = [row for some in runs for row in some]
    accuracy = sum(found.counts[at][at] for at in range(2)) / 48
    assert accuracy == pytest.approx(made.accuracy(rows))
    precision, recall, f1, support = found.classes[1]
    told = compute(["f1"], [int(row["prediction"]) for row in rows], [int(row["label"]) for row in rows])
    assert f1 == pytest.approx(told["f1"])
    assert support == sum(row["label"] == "1" for row in rows)
    assert precision == found.counts[1][1] / (found.counts[0][1] + found.counts[1][1])
    assert recall == found.counts[1][1] / support


def test_a_label_that_never_occurs_has_no_recall_and_one_never_said_no_precision() -> None:
    found = confusion(task(), [[said("0", "0"), said("0", "0")]])
    assert found is not None
    assert found.counts == ((2, 0), (0, 0))
    assert found.classes == ((1.0, 1.0, 1.0, 2), (None, None, None, 0))


@pytest.mark.parametrize("name", ["STS-B", "Copa", "SQuAD"])
def test_values_candidates_and_texts_have_no_classes(name: str) -> None:
    assert confusion(task(name), [[said("0", "1")]]) is None


def test_labels_that_the_task_does_not_have_are_not_counted() -> None:
    assert confusion(task(), [[said("0", "maybe")]]) is None
    assert confusion(task(), []) is None


# -- the hardest examples


def hardest(name: str, rows: dict[int, list[Row]], metric: str = "accuracy", count: int = 9) -> list[Any]:
    examples = Examples(task(name), metric)
    for row, answers in rows.items():
        examples.add(row, answers)
    return examples.hardest(count)


def test_the_hardest_example_is_that_whose_right_answer_has_the_least_share_over_rows_and_seeds() -> None:
    easy = said("1", "1", [0.0, 3.0], uid="test:1")
    hard = said("1", "0", [2.0, 0.0], uid="test:2", prompt="so <so>")
    found = hardest("SST-2", {0: [easy, hard], 1: [easy, {**hard, "scores": [0.0, 0.0]}]})
    assert [one.uid for one in found] == ["test:2", "test:1"]
    assert found[0].trouble == pytest.approx(1 - (1 / (1 + math.e**2) + 0.5) / 2)
    assert (found[0].gold, found[0].candidates, found[0].prompt) == (("1",), ("0", "1"), "so <so>")
    assert found[0].answers[1].shares == pytest.approx((0.5, 0.5))
    assert found[1].prompt is None
    assert len(hardest("SST-2", {0: [easy, hard]}, count=1)) == 1


def test_seeds_are_put_together_and_answers_counted() -> None:
    rows = [said("1", "0", [1.0, 0.0]), said("1", "1", [0.0, 1.0]), said("1", "1", [0.0, 1.0])]
    (one,) = hardest("SST-2", {0: rows})
    assert one.answers[0].said == (("1", 2), ("0", 1))
    assert one.answers[0].worth == pytest.approx(2 / 3)
    share = 1 / (1 + math.e)
    assert one.answers[0].shares[1] == pytest.approx((share + 2 * (1 - share)) / 3)


def test_answers_are_counted_out_of_all_seeds_also_where_not_all_are_shown() -> None:
    collected = Examples(task("SQuAD"), "token-f1")
    for answer in ("a", "b", "c", "d", "e", "a"):
        collected.add(0, [{"split": "test", "uid": "test:0", "golds": ["x"], "prediction": answer}])
    (hard,) = collected.hardest(1)
    assert hard.answers[0].said[0] == ("a", 2)
    assert len(hard.answers[0].said) < 5
    assert hard.answers[0].runs == 6


def test_examples_that_all_rows_were_asked_come_first() -> None:
    common, alone = said("1", "1", [0.0, 1.0]), said("1", "0", [9.0, 0.0], uid="test:7")
    found = hardest("SST-2", {0: [common, alone], 1: [common]})
    assert [one.uid for one in found] == ["test:0", "test:7"]


def test_the_same_uid_with_another_answer_is_another_example() -> None:
    found = hardest("SST-2", {0: [said("1", "1", [0.0, 1.0])], 1: [said("0", "1", [0.0, 1.0])]})
    assert sorted(one.gold for one in found) == [("0",), ("1",)]


def test_examples_of_two_test_sets_are_never_put_together() -> None:
    first = [said("1", "1", uid="test:0", prompt="good"), said("0", "0", uid="test:1", prompt="bad")]
    other = [said("1", "0", uid="test:0", prompt="great"), said("1", "0", uid="test:1", prompt="nice")]
    part = first[:1]
    found = hardest("SST-2", {0: first, 1: other, 2: part})
    assert sorted((one.uid, one.prompt, [answer.row for answer in one.answers]) for one in found) == [
        ("test:0", "good", [0, 2]),
        ("test:0", "great", [1]),
        ("test:1", "bad", [0]),
        ("test:1", "nice", [1]),
    ]


def test_of_candidates_of_an_examples_own_shares_are_known_where_they_were_kept() -> None:
    kept = said("a cat", "a dog", [1.0, 0.0], candidates=["a dog", "a cat"], prompt="?")
    other = said("yes", "no", [1.0, 0.0, 0.0], uid="test:5")
    found = {one.uid: one for one in hardest("Copa", {0: [kept, other]})}
    assert found["test:0"].candidates == ("a dog", "a cat")
    assert found["test:0"].answers[0].shares == pytest.approx((1 / (1 + 1 / math.e), 1 / (1 + math.e)))
    assert (found["test:5"].candidates, found["test:5"].answers[0].shares) == ((), ())
    assert found["test:5"].trouble == 1.0


def test_one_of_several_right_candidates_is_right() -> None:
    (one,) = hardest("ReCoRD", {0: [said("Rome", "the city", [0.0, 1.0], golds=["Rome", "the city"])]})
    assert (one.answers[0].worth, one.trouble) == (1.0, 0.0)


def test_values_are_hard_by_their_distance() -> None:
    near = said("2.5", "", [0.0, 0.0]) | {"label": 2.5, "prediction": 2.75}
    far = near | {"prediction": 4.5, "uid": "test:9"}
    found = hardest("STS-B", {0: [near, far]}, "pearson")
    assert [(one.uid, one.trouble) for one in found] == [("test:9", 2.0), ("test:0", 0.25)]
    assert found[0].answers[0].said == (("4.5", 1),)


def test_written_answers_are_hard_by_what_they_are_worth() -> None:
    answer = {"split": "test", "uid": "test:0", "golds": ["the Tiber", "Tiber"], "prediction": "Tiber", "score": -1.0}
    wrong = answer | {"uid": "test:1", "prediction": "the Nile"}
    found = hardest("SQuAD", {0: [answer, wrong]}, "token-f1")
    assert [(one.uid, one.trouble) for one in found] == [("test:1", 1.0), ("test:0", 0.0)]
    assert found[0].gold == ("the Tiber", "Tiber")


def test_shares_of_candidates_that_are_not_there_are_none() -> None:
    assert softmax([0.0, -math.inf]) == [1.0, 0.0]


# -- files


def test_torn_lines_of_predictions_are_left_out_and_named(tmp_path: Path) -> None:
    run = made.put(tmp_path, record(), rows=made.predictions(["0", "1"], 0.5, 13))
    with (tmp_path / run.run_id / "predictions.jsonl").open("a") as file:
        file.write('{"split": "test", "ui\n[1, 2]\n')
    logs = made.logs(tmp_path)
    assert len(list(logs.predictions(logs.found.records[0]))) == 24
    assert list(logs.problems) == [f"run {run.run_id}: 2 lines of predictions.jsonl cannot be read and are left out"]


def test_a_run_without_predictions_is_named(tmp_path: Path) -> None:
    run = made.put(tmp_path, record())
    (tmp_path / run.run_id / "predictions.jsonl").unlink()
    logs = made.logs(tmp_path)
    assert list(logs.predictions(logs.found.records[0])) == []
    assert list(logs.problems) == [f"run {run.run_id} has no predictions.jsonl that can be read"]
