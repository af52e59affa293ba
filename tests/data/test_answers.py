from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shoestring.data.example import Example
from shoestring.data.files import read_table
from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.errors import ConfigError, DataError
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import FileSource, Sources, Task

if TYPE_CHECKING:
    from pathlib import Path

CHOOSE = Task(name="choose", kind="multiple-choice", sentences=("text",))
WRITE = Task(name="write", kind="generation", sentences=("text",), metrics=("token-f1",))


def layout(kind: str, **changes: object) -> FileSource:
    given: dict[str, object] = {"folder": "", "format": kind, "sentences": ("text",), "files": {"train": "x"}}
    return FileSource.model_validate(given | {"header": kind in ("csv", "tsv")} | changes)


def read(tmp_path: Path, text: str, task: Task, kind: str = "jsonl", **changes: object) -> tuple[Example, ...]:
    path = tmp_path / f"x.{kind}"
    path.write_text(text, encoding="utf-8")
    return read_table(task, layout(kind, **changes), path, "train").all()


def one(tmp_path: Path, row: dict[str, object], **changes: Any) -> Example:
    (found,) = read(tmp_path, json.dumps({"text": "t", **row}), CHOOSE, **changes)
    return found


COLUMNS: dict[str, Any] = {"candidates": ("b", "a"), "label": "label"}


def test_the_label_names_the_column_of_the_right_candidate(tmp_path: Path) -> None:
    for label, right in (("a", "x"), ("b", "y")):
        found = one(tmp_path, {"a": "x", "b": "y", "label": label}, **COLUMNS)
        # The order of the candidates is that of the task file.
        assert (found.candidates, found.golds, found.label) == (("y", "x"), (right,), right)


def test_a_number_names_a_column_where_the_task_file_says_which(tmp_path: Path) -> None:
    table = {"labels": {"0": "a", "1": "b"}}
    found = [one(tmp_path, {"a": "x", "b": "y", "label": label}, **COLUMNS | table).golds for label in (0, 1)]
    assert found == [("x",), ("y",)]


def test_candidates_may_be_one_list_with_a_number_counted_from_0(tmp_path: Path) -> None:
    shape = {"candidates": "of.them", "label": "label"}
    found = one(tmp_path, {"of": {"them": ["x", "y", "z"]}, "label": 2}, **shape)
    assert (found.candidates, found.golds) == (("x", "y", "z"), ("z",))
    letters = {"labels": {"A": "0", "B": "1", "C": "2"}}
    assert one(tmp_path, {"of": {"them": ["x", "y", "z"]}, "label": "B"}, **shape | letters).golds == ("y",)
    records = {"of": [{"them": "x"}, {"them": "y"}], "label": "1"}
    assert one(tmp_path, records, **shape).golds == ("y",)


def test_right_answers_may_be_given_as_text_or_texts(tmp_path: Path) -> None:
    shape = {"candidates": "all", "golds": "right"}
    assert one(tmp_path, {"all": ["x", "y"], "right": "y"}, **shape).golds == ("y",)
    several = one(tmp_path, {"all": ["x", "y", "z"], "right": ["z", "x"]}, **shape)
    assert (several.golds, several.label) == (("z", "x"), "z")
    column = one(tmp_path, {"right": "y", "wrong": "x"}, candidates=("wrong", "right"), golds="right")
    assert (column.candidates, column.golds) == (("x", "y"), ("y",))


def test_csv_columns_hold_candidates_and_right_answers(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"candidates": ("a", "b"), "label": "answer", "labels": {"1": "a", "2": "b"}}
    found = read(tmp_path, 'text,answer,a,b\nt,2,x,"y, z"\n', CHOOSE, "csv", **shape)
    assert [(example.candidates, example.golds) for example in found] == [(("x", "y, z"), ("y, z",))]
    bare: dict[str, Any] = {"header": False, "sentences": (0,), "candidates": (1, 2), "golds": -1}
    assert read(tmp_path, "t\tx\ty\ty\n", CHOOSE, "tsv", **bare)[0].golds == ("y",)
    written = read(tmp_path, "text,answer\nt,w\n", WRITE, "csv", golds="answer")
    assert [(example.golds, example.label, example.candidates) for example in written] == [(("w",), "w", ())]


def test_labels_of_csv_files_are_mapped_for_the_draw_as_well(tmp_path: Path) -> None:
    text = "text,label\n" + "".join(f"t{row},{'yn'[row % 2]}\n" for row in range(10))
    files = layout("csv", label="label", labels={"y": "1", "n": "0"})
    task = load_task("SST-2").model_copy(update={"sources": Sources(files=files)})
    path = tmp_path / "x.csv"
    path.write_text(text)
    table = read_table(task, files, path, "train")
    assert table.keys == ("1", "0") * 5
    splits = draw(task, DataSettings(source=str(path), k=2), 13)
    assert sorted(str(example.label) for example in splits.train) == ["0", "0", "1", "1"]


BAD_ROWS: dict[str, tuple[dict[str, object], dict[str, Any], str]] = {
    "no candidates": ({"all": [], "label": 0}, {"candidates": "all"}, "line 1: there is no candidate: the list is emp"),
    "candidates missing": ({"label": 0}, {"candidates": "all"}, "line 1: there is no field 'all'"),
    "candidate twice": ({"all": ["x", "y", "x"], "label": 0}, {"candidates": "all"}, "candidate 'x' stands twice"),
    "empty candidate": ({"all": ["x", " "], "label": 0}, {"candidates": "all"}, "line 1: candidate 2 is empty"),
    "number for a candidate": ({"all": ["x", 7], "label": 0}, {"candidates": "all"}, "candidate 2 is not text but 7"),
    "columns alike": ({"a": "x", "b": "x", "label": "a"}, {}, "line 1: candidate 'x' stands twice"),
    "column missing": ({"a": "x", "label": "a"}, {}, "line 1: there is no field 'b'"),
    "number for a column": (
        {"a": "x", "b": "y", "label": 1},
        {},
        "the label '1' is no column of a candidate. Allowed: a, b",
    ),
    "unmapped number": (
        {"a": "x", "b": "y", "label": 2},
        {"labels": {"0": "a", "1": "b"}},
        "the label '2' is no column of a candidate. Allowed: 0, 1",
    ),
    "column in spite of the table": (
        {"a": "x", "b": "y", "label": "a"},
        {"labels": {"0": "a", "1": "b"}},
        "the label 'a' is no column of a candidate. Allowed: 0, 1",
    ),
    "number too large": ({"all": ["x", "y"], "label": 2}, {"candidates": "all"}, "there are 2, counted from 0"),
    "no number": (
        {"all": ["x", "y"], "label": -1},
        {"candidates": "all"},
        "the label '-1' is no candidate, nor the number of one",
    ),
    "gold not a candidate": (
        {"all": ["Rome", "Oslo"], "right": "Romme"},
        {"candidates": "all", "golds": "right", "label": None},
        "line 1: the right answer 'Romme' is none of the candidates; did you mean 'Rome'",
    ),
    "no gold": (
        {"all": ["x", "y"], "right": []},
        {"candidates": "all", "golds": "right", "label": None},
        "line 1: there is no right answer: the list is empty",
    ),
    "null gold": (
        {"all": ["x", "y"], "right": None},
        {"candidates": "all", "golds": "right", "label": None},
        "right answer 1 is not text but null",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_answers_that_make_no_sense_are_refused_with_file_and_line(case: str, tmp_path: Path) -> None:
    row, changes, message = BAD_ROWS[case]
    with pytest.raises(
        DataError, match=rf"x\.jsonl, .*{message}" if "line" not in message else rf"x\.jsonl, {message}"
    ):
        one(tmp_path, row, **COLUMNS | changes)


def test_a_written_answer_may_be_empty_only_where_the_task_file_says_so(tmp_path: Path) -> None:
    row = '{"text": "t", "right": ["", "x"]}'
    with pytest.raises(DataError, match="line 1: right answer 1 is empty"):
        read(tmp_path, row, WRITE, golds="right")
    assert read(tmp_path, row, WRITE, golds="right", allow_empty=True)[0].golds == ("", "x")


# ---- drawing them ----


def questions(path: Path, count: int) -> Path:
    rows = ({"passage": f"p{row}", "question": "q", "answers": [f"a{row}", "b"]} for row in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_tasks_without_labels_draw_k_examples_in_all(tmp_path: Path) -> None:
    path = questions(tmp_path / "x.jsonl", 10)
    task = load_task("DROP")
    splits = draw(task, DataSettings(source=str(path), k=4, label_column="answers"), 13)
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (4, 4, 2)
    uids = [example.uid for example in (*splits.train, *splits.dev, *splits.tests["test"])]
    assert sorted(uids) == [f"train:{row}" for row in range(10)]
    with pytest.raises(DataError, match=r"x\.jsonl: it has 10 examples, 12 are needed \(k=6 .*data\.k=5 would fit"):
        draw(task, DataSettings(source=str(path), k=6, label_column="answers"), 13)


def test_one_file_of_written_answers_has_their_column_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("story,ask,reply\n" + "".join(f"s{row},q,r{row}\n" for row in range(6)))
    settings = DataSettings(
        source=str(path), mode="subset", num_train=0, text_columns=("story", "ask"), label_column="reply"
    )
    tests = draw(load_task("DROP"), settings, 13).tests["test"]
    assert [(example.sentences, example.golds) for example in tests][:2] == [
        (("s0", "q"), ("r0",)),
        (("s1", "q"), ("r1",)),
    ]


def test_one_file_of_another_format_has_the_candidates_where_the_task_file_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("premise,question,choice1,choice2,which\nIt rained.,effect,I got wet.,It was dry.,0\n")
    settings = DataSettings(source=str(path), mode="subset", num_train=0, label_column="which")
    (example,) = draw(load_task("Copa"), settings, 13).tests["test"]
    assert (example.candidates, example.golds) == (("I got wet.", "It was dry."), ("I got wet.",))
    bare = CHOOSE.model_copy(update={"sources": Sources()})
    with pytest.raises(DataError, match=r"task choose: does not say where in mine\.csv the candidates are"):
        draw(bare, DataSettings(source=str(path), mode="subset", num_train=0), 13)
    with pytest.raises(DataError, match=r"mine\.csv: a column of a csv file holds one text; candidates are several"):
        draw(load_task("ReCoRD"), DataSettings(source=str(path), mode="subset", num_train=0), 13)


# ---- task files ----

BAD_SOURCES: dict[str, tuple[dict[str, object], str]] = {
    "nothing right": ({"label": None}, "what is right is said by `label` or by `golds`, by one of them"),
    "both": ({"golds": "right"}, "what is right is said by `label` or by `golds`, by one of them"),
    "labels without label": ({"label": None, "golds": "g", "labels": {"0": "a"}}, "but there is no `label`"),
    "one candidate": ({"candidates": ("a",)}, "candidates are two columns or more, or the name of one that lists them"),
    "candidate twice": ({"candidates": ("a", "a")}, "candidate 'a' stands twice"),
    "label of no candidate": (
        {"candidates": ("a", "b"), "labels": {"0": "c"}},
        "leads to 'c', which is no column of a",
    ),
    "unknown rule": ({"derive": "dorp"}, "there is no rule 'dorp' to derive fields by; did you mean 'drop'"),
    "header of jsonl": ({"header": True}, "header is for tsv and csv, which have columns; jsonl has"),
    "ragged jsonl": ({"ragged": True}, "ragged is for tsv and csv, which have columns"),
    "each of csv": ({"format": "csv", "header": True, "each": ("x",)}, "each is for json and jsonl files"),
    "rule for csv": ({"format": "csv", "header": True, "derive": "drop"}, "derive is for json and jsonl files"),
    "list in csv": ({"format": "csv", "header": True, "candidates": "all"}, "a column of a csv file holds one text"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_source_that_makes_no_sense_is_refused_when_it_is_loaded(case: str) -> None:
    changes, message = BAD_SOURCES[case]
    with pytest.raises(ValueError, match=message):
        layout("jsonl", **{"label": "label", "header": False} | changes)


BAD_TASKS: dict[str, tuple[str, str, str]] = {
    "choice without candidates": ("multiple-choice", 'label = "l"', "a multiple-choice task, and only that, has `cand"),
    "writing without answers": ("generation", 'label = "l"', "a generation task has `golds`, the right answers"),
    "writing with candidates": (
        "generation",
        'golds = "g"\ncandidates = "c"',
        "has `candidates`; this one is of kind gen",
    ),
    "classes without label": ("classification", 'golds = "g"', "sources.files: a classification task has a `label`"),
    "classes with candidates": (
        "classification",
        'label = "l"\ncandidates = "c"',
        "this one is of kind classification",
    ),
    "label of no class": ("classification", 'label = "l"\nlabels = {0 = "x"}', "files.labels leads to label 'x'"),
    "names of values": ("regression", 'label = "l"\nlabels = {0 = "a"}', "a regression task has values"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_source_that_does_not_suit_the_task_is_refused_when_it_is_loaded(case: str, tmp_path: Path) -> None:
    kind, answers, message = BAD_TASKS[case]
    labels = kind in ("classification", "regression")
    more = 'labels = [{ name = "a", word = "yes" }, { name = "b", word = "no" }]\n' if labels else ""
    more += "range = {low = 0, high = 1, threshold = 0.5}\n" if kind == "regression" else ""
    metric = {"generation": "token-f1", "regression": "pearson"}.get(kind, "accuracy")
    source = f'[sources.files]\nfolder = "x"\nformat = "jsonl"\nsentences = ["t"]\nfiles = {{train = "x"}}\n{answers}\n'
    head = f'name = "mine"\nkind = "{kind}"\nsentences = ["t"]\nmetrics = ["{metric}"]\n'
    (tmp_path / "mine.toml").write_text(head + more + source)
    with pytest.raises(ConfigError, match=message):
        load_task(str(tmp_path / "mine.toml"))
