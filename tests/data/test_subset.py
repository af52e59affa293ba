from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from reference import subset_twin
from shoestring.data.example import Example, Splits
from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.errors import DataError
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from pathlib import Path

TASK = Task.model_validate(
    {
        "name": "mood",
        "sentences": ["text"],
        "labels": [{"name": "bad", "word": "terrible"}, {"name": "good", "word": "great"}],
        "sources": {
            "files": {
                "folder": "mood",
                "format": "jsonl",
                "sentences": ["text"],
                "label": "label",
                "files": {"train": "train.jsonl", "test": "val.jsonl"},
            }
        },
    }
)


def rows(split: str, count: int) -> str:
    return "".join(f'{{"text": "{split} {row}", "label": "{("bad", "good")[row % 3 > 0]}"}}\n' for row in range(count))


def folder(place: Path, train: int | None = 30, test: int = 12) -> Path:
    place.mkdir(exist_ok=True)
    if train is not None:
        (place / "train.jsonl").write_text(rows("train", train))
    (place / "val.jsonl").write_text(rows("test", test))
    return place


def subset(source: Path, run_seed: int = 13, task: Task = TASK, **changes: object) -> Splits:
    given = {"source": str(source), "mode": "subset", "num_train": 0} | changes
    return draw(task, DataSettings.model_validate(given), run_seed)


def numbers(examples: tuple[Example, ...]) -> list[int]:
    return [int(example.uid.partition(":")[2]) for example in examples]


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize(
    ("num_train", "num_dev", "num_eval"),
    [(10, 5, 6), (10, None, 6), (0, 4, None), (25, 20, 12), (50, 7, 100), (30, 29, 1), (6, 5, None)],
    ids=["small", "no dev", "dev alone", "too little for both", "all", "almost only dev", "all of test"],
)
def test_a_draw_is_the_twins(
    seed: int, num_train: int, num_dev: int | None, num_eval: int | None, tmp_path: Path
) -> None:
    splits = subset(folder(tmp_path), seed, num_train=num_train, num_dev=num_dev, num_eval=num_eval)
    train, dev, test = subset_twin.one_set(range(30), range(12), seed, num_train, num_dev, num_eval)
    assert numbers(splits.train) == train
    assert numbers(splits.dev) == dev
    assert numbers(splits.tests["test"]) == test
    assert not splits.own


@pytest.mark.parametrize(
    ("size", "num_dev", "left"), [(250, 100, 150), (400, 100, 300), (554, 500, 54)], ids=["CB", "Copa", "WSC"]
)
def test_dev_keeps_its_size_where_train_is_too_small_for_both(
    size: int, num_dev: int, left: int, tmp_path: Path
) -> None:
    splits = subset(folder(tmp_path, size), 0, num_train=1000, num_dev=num_dev, num_eval=1000)
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (left, num_dev, 12)
    assert {*numbers(splits.train)}.isdisjoint(numbers(splits.dev))


def test_the_draw_looks_at_no_labels(tmp_path: Path) -> None:
    splits = subset(folder(tmp_path), 0, num_train=5, num_dev=5)
    assert Counter(example.label for example in splits.train) == {"good": 5}


@pytest.mark.parametrize(("num_train", "num_eval"), [(4, 6), (4, None), (50, 100), (1, 1)])
def test_each_test_example_has_the_twins_training_set(num_train: int, num_eval: int | None, tmp_path: Path) -> None:
    splits = subset(folder(tmp_path), 99, num_train=num_train, num_eval=num_eval, per_example=True)
    assert splits.train == splits.dev == ()
    found = [(number, numbers(splits.own[f"test:{number}"])) for number in numbers(splits.tests["test"])]
    assert found == subset_twin.a_set_each(range(30), range(12), num_train, num_eval)
    assert len(splits.own) == len(found)


def test_the_own_training_sets_do_not_depend_on_the_runs_seed(tmp_path: Path) -> None:
    one, other = (subset(folder(tmp_path), seed, num_train=3, per_example=True) for seed in (1, 2))
    assert one.digest == other.digest
    assert one.digest != subset(tmp_path, 1, num_train=4, per_example=True).digest


def test_the_seed_of_the_draw_can_be_set_apart_from_the_runs(tmp_path: Path) -> None:
    of_seed_0 = subset(folder(tmp_path), 0, num_train=10, num_dev=5, num_eval=6)
    assert subset(tmp_path, 13, num_train=10, num_dev=5, num_eval=6, seed=0).digest == of_seed_0.digest
    k_shot = DataSettings(source=str(tmp_path), k=2)
    assert draw(TASK, k_shot.model_copy(update={"seed": 7}), 13).digest == draw(TASK, k_shot, 7).digest
    assert draw(TASK, k_shot, 13).digest != draw(TASK, k_shot, 7).digest


def test_a_test_file_alone_is_enough_where_nothing_is_trained(tmp_path: Path) -> None:
    source = folder(tmp_path / "mood", train=None)
    for place in (source, tmp_path, source / "val.jsonl"):
        splits = subset(place, 0, num_eval=5)
        assert (splits.train, splits.dev) == ((), ())
        assert numbers(splits.tests["test"]) == subset_twin.first_of_a_permutation(range(12), 0, 5)
        assert {example.uid.partition(":")[0] for example in splits.tests["test"]} == {"test"}
    assert numbers(subset(source, 0).tests["test"]) == [*range(12)]
    remedy = r"; a test set alone is evaluated with data\.mode=subset data\.num_train=0"
    with pytest.raises(DataError, match=rf"holds no files of mood: looked for .*train\.jsonl.*{remedy}"):
        subset(source, 0, num_train=1)


def test_nothing_of_train_is_read_where_nothing_of_it_is_wanted(tmp_path: Path) -> None:
    source = folder(tmp_path)
    (source / "train.jsonl").write_text("not JSON")
    assert len(subset(source).tests["test"]) == 12
    (tmp_path / "other.jsonl").write_text(rows("other", 3))
    tests = subset(source, test_source=str(tmp_path / "other.jsonl")).tests["test"]
    assert [example.sentences for example in tests] == [("other 0",), ("other 1",), ("other 2",)]
    one_file = subset(source / "train.jsonl", test_source=str(tmp_path / "other.jsonl"))
    assert one_file.digest == subset(source, test_source=str(tmp_path / "other.jsonl")).digest


def test_one_file_is_parted_into_train_dev_and_test(tmp_path: Path) -> None:
    path = folder(tmp_path) / "train.jsonl"
    splits = subset(path, 3, num_train=6, num_dev=4, num_eval=5)
    train, dev, _ = subset_twin.one_set(range(30), (), 3, 6, 4, None)
    rest = [row for row in range(30) if row not in (*train, *dev)]
    assert (numbers(splits.train), numbers(splits.dev)) == (train, dev)
    assert numbers(splits.tests["test"]) == subset_twin.first_of_a_permutation(rest, 3, 5)
    assert len(subset(path, 3, num_train=6).tests["test"]) == 24


def test_one_file_can_give_each_test_example_a_training_set(tmp_path: Path) -> None:
    path = folder(tmp_path) / "train.jsonl"
    splits = subset(path, num_train=4, num_eval=5, per_example=True)
    tests = numbers(splits.tests["test"])
    assert tests == subset_twin.first_of_a_permutation(range(30), 0, 5)
    assert all(len(own) == 4 for own in splits.own.values())
    assert {row for own in splits.own.values() for row in numbers(own)}.isdisjoint(tests)
    with pytest.raises(DataError, match=r"is one file of 30 examples, and train and test cannot share them as asked"):
        subset(path, num_train=4, per_example=True)


def test_a_file_that_train_uses_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"smaller data\.num_train, data\.num_dev or data\.num_eval, or data\.test_sou"):
        subset(folder(tmp_path) / "train.jsonl", num_train=20, num_dev=10)


def test_a_dev_set_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train has 30 examples, and data\.num_dev=30 leaves none of them to train on"):
        subset(folder(tmp_path), num_train=10, num_dev=30)


def test_the_global_generator_is_left_alone(tmp_path: Path, global_random_states: None) -> None:
    subset(folder(tmp_path), num_train=3, num_eval=4)
    subset(tmp_path, num_train=3, num_eval=4, per_example=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_train": 3}, r"data\.num_train is for mode 'subset', not for mode 'k-shot'"),
        ({"num_dev": 3, "mode": "full"}, r"data\.num_dev is for mode 'subset', not for mode 'full'"),
        ({"num_eval": 3}, r"data\.num_eval is for mode 'subset'"),
        ({"per_example": True}, r"data\.per_example is for mode 'subset'"),
        ({"mode": "subset"}, r"mode 'subset' needs data\.num_train; 0 where nothing is trained or demonstrated"),
        ({"mode": "subset", "num_train": 3, "k": 8}, r"data\.k=8 has no effect in mode 'subset'"),
        ({"mode": "subset", "num_train": 3, "max_test": 8}, r"data\.max_test has no effect in mode 'subset'"),
        ({"mode": "subset", "num_train": 3, "allow_fewer": True}, r"data\.allow_fewer is for k-shot draws"),
        ({"mode": "subset", "num_train": 3, "dev_share": 0.5}, r"data\.dev_share is for mode 'full'"),
        ({"mode": "subset", "num_train": 0, "per_example": True}, r"data\.per_example needs data\.num_train"),
        ({"mode": "subset", "num_train": 3, "num_dev": 2, "per_example": True}, r"num_dev is for one training set"),
        ({"mode": "subset", "num_train": 3, "seed": 2, "per_example": True}, r"data\.seed has no effect with"),
    ],
)  # fmt: skip
def test_settings_that_would_be_ignored_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate(given)


def test_resolved_settings_can_be_read_again() -> None:
    resolved = DataSettings(mode="subset", num_train=0)
    assert DataSettings.model_validate(resolved.model_dump()) == resolved
