from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reference import kshot_twin
from reference.originals import COLUMNS, MODES, originals
from shoestring.data.example import Example, Splits
from shoestring.data.published import SEEDS
from shoestring.data.splits import DataSettings, draw
from shoestring.errors import DataError, UnknownNameError
from shoestring.tasks.inline import InlineSettings, inline_task
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from pathlib import Path


def settings_of(source: Path, **changes: object) -> DataSettings:
    return DataSettings.model_validate({"source": str(source)} | changes)


def said(examples: tuple[Example, ...]) -> list[tuple[tuple[str, ...], str | float]]:
    return [(example.sentences, example.label) for example in examples]


@pytest.mark.parametrize("task", ["SST-2", "trec", "CoLA"])
@pytest.mark.parametrize("seed", [13, 100])
def test_a_draw_from_the_originals_is_the_published_split(task: str, seed: int, shared: Path) -> None:
    loaded, root = load_task(task), shared / "lm-bff"
    ours = draw(loaded, settings_of(root), seed)
    original = root / task / "original"
    published = draw(loaded, settings_of(root, mode="given", test_source=str(original)), seed)
    assert said(ours.train) == said(published.train)
    assert said(ours.dev) == said(published.dev)
    assert said(ours.tests["test"]) == said(published.tests["test"])


@pytest.mark.parametrize("task", ["MNLI", "SNLI", "QQP", "QNLI"])
def test_the_published_files_of_every_pair_task_are_read(task: str, shared: Path) -> None:
    root, loaded = shared / "lm-bff", load_task(task)
    for k, seed in ((16, 13), (512, 42)):
        given = settings_of(root / task / "k-shot", mode="given", k=k, test_source=str(root / task / "test" / "1k"))
        splits = draw(loaded, given, seed)
        assert Counter(example.label for example in splits.train) == dict.fromkeys(loaded.label_names, k)
        assert Counter(example.label for example in splits.dev) == dict.fromkeys(loaded.label_names, k)
        assert {len(examples) for examples in splits.tests.values()} == {1000}
    assert len(splits.tests) == (2 if task == "MNLI" else 1)


@pytest.mark.parametrize("task", COLUMNS)
def test_a_draw_in_memory_is_what_is_read_from_the_published_files(task: str, tmp_path: Path) -> None:
    originals(tmp_path / task, task, train=200, dev=1005, seed=3 if task == "CoLA" else 4)
    for mode in MODES:
        kshot_twin.publish(tmp_path, tmp_path / "twin", task, 4, mode, list(SEEDS))
        for seed in (100, 21):
            ours = draw(load_task(task), settings_of(tmp_path, k=4, mode=mode, allow_fewer=True), seed)
            folder = tmp_path / "twin" / mode / task
            published = draw(load_task(task), settings_of(folder, k=4, mode="given"), seed)
            assert said(ours.train) == said(published.train)
            assert said(ours.dev) == said(published.dev)
            assert list(ours.tests) == list(published.tests)
            assert [said(test) for test in ours.tests.values()] == [said(test) for test in published.tests.values()]


def test_the_glued_row_of_cola_is_one_example_under_the_number_of_its_first_half(shared: Path) -> None:
    task = load_task("CoLA")
    splits = draw(task, settings_of(shared / "lm-bff", mode="k-shot-1k-test"), 13)
    test = splits.tests["test"]
    assert len(test) == 999
    (glued,) = [example for example in test if example.uid == "test:1042"]
    assert glued.sentences[0].startswith("John talked to Bill about himself.")
    assert len(glued.sentences[0]) > len("John talked to Bill about himself.")


def test_no_other_task_glues_a_last_row_without_newline(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\n" + "\n".join(f"film {row}\t{row % 2}" for row in range(8)))
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\na\t0")
    splits = draw(load_task("SST-2"), settings_of(tmp_path, k=2), 13)
    assert sorted(example.sentences[0] for example in (*splits.train, *splits.dev)) == [
        f"film {row}" for row in range(8)
    ]


def test_uids_are_rows_of_the_source_and_train_and_dev_are_apart(shared: Path) -> None:
    original = shared / "lm-bff" / "trec" / "original" / "train.csv"
    lines = original.read_text().splitlines()
    splits = draw(load_task("trec"), settings_of(shared / "lm-bff"), 42)
    for example in (*splits.train, *splits.dev):
        assert lines[int(example.uid.removeprefix("train:"))].startswith(f"{example.label},")
    assert len({example.uid for example in (*splits.train, *splits.dev)}) == 2 * 96


def test_seeds_differ_and_a_seed_repeats_itself_without_touching_the_global_generator(shared: Path) -> None:
    task, given = load_task("trec"), settings_of(shared / "lm-bff", max_test=50)
    np.random.seed(0)  # noqa: NPY002 - the point is that this state survives
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002
    first, again, other = draw(task, given, 13), draw(task, given, 13), draw(task, given, 21)
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before  # noqa: NPY002
    assert first.digest == again.digest != other.digest
    assert first.tests == other.tests


def test_max_test_takes_the_first_of_one_fixed_order(shared: Path) -> None:
    task = load_task("trec")
    few = draw(task, settings_of(shared / "lm-bff", max_test=20), 13).tests["test"]
    more = draw(task, settings_of(shared / "lm-bff", max_test=60), 21).tests["test"]
    every = draw(task, settings_of(shared / "lm-bff", max_test=500), 13).tests["test"]
    assert more[:20] == few
    assert few != every[:20]
    assert [example.uid for example in every] == [f"test:{row}" for row in range(500)]


# ---- one file of the user's own ----


def reviews(tmp_path: Path, counts: dict[str, int], kind: str = "csv") -> tuple[Path, Task]:
    path = tmp_path / f"reviews.{kind}"
    content = [(f"{label} {row}", label) for label, count in counts.items() for row in range(count)]
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"review": text, "label": label}) + "\n" for text, label in content))
    else:
        comma = "," if kind == "csv" else "\t"
        path.write_text(f"review{comma}label\n" + "".join(f"{text}{comma}{label}\n" for text, label in content))
    given = InlineSettings(
        file=str(path), text_columns=("review",), template="*cls**sent_0**mask*", label_words="bad=terrible,good=great"
    )
    return path, inline_task(given)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_one_file_gives_train_dev_and_the_rest_for_test(kind: str, tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 10, "good": 7}, kind)
    splits = draw(task, settings_of(path, k=3), 5)
    assert Counter(example.label for example in splits.train) == {"bad": 3, "good": 3}
    assert Counter(example.label for example in splits.dev) == {"bad": 3, "good": 3}
    uids = [example.uid for example in (*splits.train, *splits.dev, *splits.tests["test"])]
    assert sorted(uids) == sorted(f"train:{row}" for row in range(17))
    rest = [int(example.uid.removeprefix("train:")) for example in splits.tests["test"]]
    assert rest == sorted(rest)


quick = settings(deadline=None, derandomize=True, max_examples=30)


@quick
@given(bad=st.integers(2, 20), good=st.integers(2, 20), k=st.integers(1, 10), seed=st.integers(0, 2**32 - 1))
def test_any_draw_is_balanced_and_complete_or_refused(
    bad: int, good: int, k: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, task = reviews(tmp_path_factory.mktemp("draw"), {"bad": bad, "good": good})
    if min(bad, good) < 2 * k or bad + good == 4 * k:
        with pytest.raises(DataError):
            draw(task, settings_of(path, k=k), seed)
        return
    splits = draw(task, settings_of(path, k=k), seed)
    assert Counter(example.label for example in splits.train) == {"bad": k, "good": k}
    every = [*splits.train, *splits.dev, *splits.tests["test"]]
    assert sorted(example.sentences[0] for example in every) == sorted(
        [f"bad {row}" for row in range(bad)] + [f"good {row}" for row in range(good)]
    )


def test_a_test_file_of_its_own_keeps_the_rest_out(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 6, "good": 6})
    (tmp_path / "test.csv").write_text("review,label\nfine,good\n")
    splits = draw(task, settings_of(path, k=2, test_source=str(tmp_path / "test.csv")), 1)
    assert said(splits.tests["test"]) == [(("fine",), "good")]


def test_columns_of_another_name_keep_what_their_values_are_called(tmp_path: Path) -> None:
    source = {
        "folder": "own", "format": "jsonl", "sentences": ["text"], "label": "label", "files": {"train": "train.jsonl"},
        "labels": {"0": "1", "1": "0"}, "skip_labels": ["2"],
    }  # fmt: skip
    labels = [{"name": "0", "word": "bad"}, {"name": "1", "word": "good"}]
    task = Task.model_validate({"name": "own", "sentences": ["text"], "labels": labels, "sources": {"files": source}})
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{row}", "stars": row % 3}) + "\n" for row in range(9)))
    splits = draw(task, settings_of(path, k=1, label_column="stars"), 1)
    drawn = [example for examples in splits.named.values() for example in examples]
    assert {(int(example.sentences[0][1:]) % 3, example.label) for example in drawn} == {(0, "1"), (1, "0")}


def test_a_catalogue_task_reads_a_file_with_columns_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("stars,text\n" + "".join(f"{row % 2},film {row}\n" for row in range(12)))
    given = settings_of(path, k=2, text_columns=("text",), label_column="stars")
    assert len(draw(load_task("SST-2"), given, 1).tests["test"]) == 4
    (tmp_path / "own.csv").write_text(path.read_text().replace("stars,text", "label,sentence"))
    assert len(draw(load_task("SST-2"), settings_of(tmp_path / "own.csv", k=2), 1).tests["test"]) == 4


def test_one_file_in_the_tasks_own_layout_needs_no_column_names(shared: Path) -> None:
    path = shared / "lm-bff" / "trec" / "original" / "test.csv"
    assert len(draw(load_task("trec"), settings_of(path, k=2), 1).train) == 12


def test_full_takes_all_of_train_and_draws_a_share_for_dev(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 10, "good": 10})
    (tmp_path / "test.csv").write_text("review,label\nfine,good\n")
    given = settings_of(path, mode="full", test_source=str(tmp_path / "test.csv"))
    one, other = draw(task, given, 1), draw(task, given, 2)
    assert (len(one.train), len(one.dev)) == (18, 2)
    assert {example.uid for example in one.train}.isdisjoint(example.uid for example in one.dev)
    assert [example.uid for example in one.dev] != [example.uid for example in other.dev]
    assert len(draw(task, given.model_copy(update={"dev_share": 0.5}), 1).dev) == 10


def test_full_uses_the_dev_set_of_a_folder_that_has_one(tmp_path: Path) -> None:
    _, task = reviews(tmp_path, {"bad": 2, "good": 2})
    for name, text in (("train", "a"), ("dev", "b"), ("test", "c")):
        (tmp_path / f"{name}.csv").write_text(f"review,label\n{text},bad\n{text},good\n")
    files = task.sources.files
    assert files is not None
    names = {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}
    own = files.model_copy(update={"folder": "", "files": names})
    task = task.model_copy(update={"sources": task.sources.model_copy(update={"files": own})})
    splits = draw(task, settings_of(tmp_path, mode="full"), 1)
    assert [examples[0].sentences[0] for examples in (splits.train, splits.dev, splits.tests["test"])] == [
        "a",
        "b",
        "c",
    ]


# ---- where a source may lie ----


@pytest.mark.parametrize("place", ["", "RTE", "RTE/original", "original/RTE"])
def test_original_files_are_found_in_every_usual_place(place: str, tmp_path: Path) -> None:
    originals(tmp_path / "data" / place / "x", "RTE", train=20, dev=3, seed=2)
    (tmp_path / "data" / place).mkdir(exist_ok=True, parents=True)
    for file in (tmp_path / "data" / place / "x").iterdir():
        file.rename(tmp_path / "data" / place / file.name)
    assert len(draw(load_task("RTE"), settings_of(tmp_path / "data", k=2), 1).train) == 4


@pytest.mark.parametrize("place", ["", "4-13", "RTE/4-13", "k-shot/RTE/4-13", "RTE/k-shot/4-13", "RTE"])
def test_given_splits_are_found_in_every_usual_place(place: str, tmp_path: Path) -> None:
    originals(tmp_path / "RTE", "RTE", train=40, dev=3, seed=2)
    kshot_twin.publish(tmp_path, tmp_path / "twin", "RTE", 4, "k-shot", [13])
    target = tmp_path / "data" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "twin" / "k-shot" / "RTE" / "4-13").rename(target)
    splits = draw(load_task("RTE"), settings_of(tmp_path / "data", mode="given", k=4), 13)
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (8, 8, 3)


def test_test_sets_can_be_chosen(tmp_path: Path) -> None:
    originals(tmp_path / "MNLI", "MNLI", train=40, dev=3, seed=2)
    (tmp_path / "MNLI" / "dev_mismatched.tsv").unlink()
    with pytest.raises(
        DataError, match=r"dev_mismatched.tsv: there is no such file, .*data.tests the test sets to read"
    ):
        draw(load_task("MNLI"), settings_of(tmp_path, k=2), 1)
    assert list(draw(load_task("MNLI"), settings_of(tmp_path, k=2, tests=("test",)), 1).tests) == ["test"]
    with pytest.raises(UnknownNameError, match="task MNLI: unknown test set 'test-mm'; did you mean 'test'"):
        draw(load_task("MNLI"), settings_of(tmp_path, k=2, tests=("test-mm",)), 1)


# ---- what is refused ----


def test_too_few_examples_of_a_label_name_it_and_the_largest_k(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 40, "good": 9})
    message = (
        r"label 'good' has 9 examples, 32 are needed \(k=16 for train and 16 for dev\); "
        r"data.k=4 would fit, or data.allow_fewer=true"
    )
    with pytest.raises(DataError, match=message):
        draw(task, settings_of(path), 1)
    splits = draw(task, settings_of(path, allow_fewer=True), 1)
    assert Counter(example.label for example in splits.train) == {"bad": 16, "good": 9}


def test_one_example_of_a_label_is_too_few_for_any_k(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 4, "good": 1})
    with pytest.raises(DataError, match=r"label 'good' has 1 example, 2 are needed .*; add examples"):
        draw(task, settings_of(path, k=1), 1)


@pytest.mark.parametrize("changes", [{}, {"allow_fewer": True}, {"mode": "full"}])
def test_a_label_without_examples_is_named(changes: dict[str, object], tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 40})
    with pytest.raises(DataError, match="label 'good' of reviews has no example; the labels there: 'bad'"):
        draw(task, settings_of(path, **changes), 1)


def test_a_file_that_train_and_dev_use_up_is_refused(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 4, "good": 4})
    with pytest.raises(DataError, match="train and dev leave no example for test"):
        draw(task, settings_of(path, k=2), 1)


def test_one_file_cannot_be_given_and_full_needs_a_test(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 4, "good": 4})
    with pytest.raises(DataError, match="is one file; mode 'given' needs a folder"):
        draw(task, settings_of(path, mode="given"), 1)
    with pytest.raises(DataError, match=r"is one file; mode 'full' needs data.test_source"):
        draw(task, settings_of(path, mode="full"), 1)


def test_a_train_set_too_small_to_part_is_refused(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 1, "good": 1})
    with pytest.raises(DataError, match="2 examples cannot be parted into train and dev"):
        draw(task, settings_of(path, mode="full", dev_share=0.9, test_source=str(path)), 1)


def test_a_source_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 4, "good": 4})
    with pytest.raises(DataError, match=r"there is no such file or folder; did you mean 'reviews.csv'"):
        draw(task, settings_of(tmp_path / "review.csv"), 1)
    with pytest.raises(DataError, match=r"there is no such file or folder; did you mean 'reviews.csv'"):
        draw(task, settings_of(path, test_source=str(tmp_path / "review.csv")), 1)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.jsnl").write_text("{}")
    with pytest.raises(DataError, match=r"is of an unknown kind '.jsnl'; did you mean 'jsonl'"):
        draw(load_task("SST-2"), settings_of(tmp_path / "reviews.jsnl"), 1)


def test_columns_must_fit_the_task_and_a_file(tmp_path: Path) -> None:
    path, _ = reviews(tmp_path, {"bad": 4, "good": 4})
    with pytest.raises(DataError, match="1 text columns for the 2 texts of RTE"):
        draw(load_task("RTE"), settings_of(path, text_columns=("review",)), 1)
    originals(tmp_path / "RTE", "RTE", train=10, dev=2, seed=2)
    message = r"data: data.text_columns names columns of one file, which data.source \(or data.test_source\) should be$"
    with pytest.raises(DataError, match=message):
        draw(load_task("RTE"), settings_of(tmp_path, text_columns=("a", "b")), 1)


def test_a_folder_of_tests_must_hold_them(tmp_path: Path) -> None:
    originals(tmp_path / "RTE", "RTE", train=10, dev=2, seed=2)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "tset.tsv").write_text("x")
    with pytest.raises(
        DataError, match=r"no file of split 'test', neither test.tsv nor dev.tsv; did you mean 'tset.tsv'"
    ):
        draw(load_task("RTE"), settings_of(tmp_path, k=1, test_source=str(tmp_path / "tests")), 1)


def test_tasks_without_files_or_hub_say_so(tmp_path: Path) -> None:
    path, task = reviews(tmp_path, {"bad": 4, "good": 4})
    with pytest.raises(DataError, match=r"task reviews: is not on the hub; give data.source"):
        draw(task, DataSettings(), 1)
    bare = task.model_copy(update={"sources": task.sources.model_copy(update={"files": None})})
    with pytest.raises(DataError, match=r"task reviews: names no files; data.test_source must be one file"):
        draw(bare, settings_of(path, test_source=str(tmp_path), text_columns=("review",)), 1)
    with pytest.raises(DataError, match="the hub holds no k-shot splits"):
        draw(load_task("RTE"), DataSettings(mode="given"), 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no files of RTE: .*; there is nothing$"):
        draw(load_task("RTE"), settings_of(tmp_path / "empty"), 1)
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.jsonl").write_text("")
    with pytest.raises(DataError, match=r"holds no files of RTE: .*; task mezo/RTE reads RTE/train\.jsonl"):
        draw(load_task("RTE"), settings_of(tmp_path), 1)
    with pytest.raises(
        DataError,
        match=r"val\.jsonl: there is no such file, .*; .*of train\.jsonl itself as data\.source, test is what",
    ):
        draw(load_task("mezo/RTE"), settings_of(tmp_path), 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "x", "revision": "main"}, "data.revision is for the hub"),
        ({"mode": "given", "allow_fewer": True}, "data.allow_fewer is for k-shot draws"),
        ({"mode": "full", "k": 8}, "data.k=8 has no effect in mode 'full'"),
        ({"dev_share": 0.2}, "data.dev_share is for mode 'full'"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate(given)


def test_resolved_settings_can_be_read_again() -> None:
    for mode in ("k-shot", "given", "full"):
        resolved = DataSettings.model_validate({"mode": mode})
        assert DataSettings.model_validate(resolved.model_dump()) == resolved


def test_splits_have_names_in_order() -> None:
    one, other, third = (Example(uid, ("text",), "0") for uid in ("train:0", "train:1", "test:0"))
    splits = Splits((one,), (other,), {"test": (third,), "test-mismatched": ()})
    assert list(splits.named.items()) == [
        ("train", (one,)), ("dev", (other,)), ("test", (third,)), ("test-mismatched", ()),
    ]  # fmt: skip
