"""Rows to be labelled: every format gives the same texts, and every mistake says where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shoestring.data.unlabelled import Unlabelled, read_unlabelled, unlabelled_lines, unlabelled_rows
from shoestring.errors import DataError
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

SST, MRPC, STSB = load_task("SST-2"), load_task("MRPC"), load_task("STS-B")
CHOOSING, WRITING = load_task("mezo/Copa"), load_task("mezo/SQuAD")
ROWS = [{"sentence1": 'it rains, "hard"', "sentence2": "it's wet"}, {"sentence1": "a", "sentence2": "b c"}]


def texts(found: Unlabelled) -> list[tuple[str, ...]]:
    return [example.sentences for example in found.examples]


WRITTEN = {
    "csv": 'id,sentence2,sentence1\n1,it\'s wet,"it rains, ""hard"""\n2,b c,a\n',
    "tsv": 'sentence1\tsentence2\nit rains, "hard"\tit\'s wet\na\tb c\n',
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "json": json.dumps(ROWS),
    "txt": 'it rains, "hard"\tit\'s wet\n\na\tb c\n',
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_format_gives_the_same_texts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"new.{kind}"
    path.write_text("\ufeff" + WRITTEN[kind], encoding="utf-8")
    found = read_unlabelled(MRPC, path)
    assert texts(found) == [tuple(row.values()) for row in ROWS]
    assert [example.uid for example in found.examples] == ["new:0", "new:1"]
    assert set(ROWS[0]) <= set(found.columns)
    assert found.rows[1]["sentence2"] == "b c"


def test_columns_may_have_other_names_and_further_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("id,a,b\n7,x,y\n")
    found = read_unlabelled(MRPC, path, ("b", "a"))
    assert texts(found) == [("y", "x")]
    assert found.rows == ({"id": "7", "a": "x", "b": "y"},)


@pytest.mark.parametrize(
    ("task", "row", "label", "golds"),
    [
        (SST, {"sentence": "a"}, SST.label_names[0], ()),
        (STSB, {"sentence1": "a", "sentence2": "b"}, 0.0, ()),
        (WRITING, {"title": "t", "context": "a", "question": "b"}, "?", ("?",)),
        (CHOOSING, {"premise": "a", "question": "effect", "candidates": ["x", "y"]}, "x", ("x",)),
    ],
)
def test_an_example_has_an_answer_that_means_nothing(task: Task, row: dict[str, Any], label: Any, golds: Any) -> None:
    (example,) = unlabelled_rows(task, [row]).examples
    assert (example.label, example.golds) == (label, golds)
    assert example.candidates == tuple(row.get("candidates", ()))


def test_lines_are_records_where_they_begin_like_one() -> None:
    assert texts(unlabelled_lines(SST, '{"sentence": "a"}\n\n{"sentence": "b"}\n')) == [("a",), ("b",)]
    assert texts(unlabelled_lines(SST, "a\tb\n c \n")) == [("a\tb",), (" c ",)]
    assert texts(unlabelled_rows(SST, ["a", {"sentence": "b"}])) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("new.xls", "a", r"new\.xls: is not of a known format"),
        ("new.csv", "", "is empty"),
        ("new.csv", "sentence1,sentence2\n", "holds no rows"),
        ("new.csv", "sentence1,sentense2\na,b\n", r"line 1: the text 'sentence2' is missing; did you mean 'sentense2'"),
        ("new.csv", "a,a\nx,y\n", r"line 1: the column 'a' stands twice"),
        ("new.csv", "sentence1,sentence2\na,b,c\n", "line 2: the row has 3 columns, the header has 2"),
        ("new.csv", 'sentence1,sentence2\na,"b\n', "line 2: the row is not csv"),
        ("new.csv", "sentence1,sentence2\na,b\na, \n", "line 3: the text 'sentence2' is empty"),
        (
            "new.jsonl",
            '{"sentence1": "a", "sentence2": "b"}\n{"sentence1"\n',
            r"line 2: the row is not JSON: Expecting ':' delimiter at column 13$",
        ),
        (
            "new.jsonl",
            '{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a"}\n',
            r"line 2: the text 'sentence2' is missing",
        ),
        ("new.tsv", "sentence1\tb\nx\ty\n", r"line 1: the text 'sentence2' is missing"),
        ("new.jsonl", "3\n", "line 1: is not an object with named fields"),
        ("new.jsonl", '{"sentence1": 3, "sentence2": "b"}\n', "line 1: 'sentence1' is 3, not a text"),
        ("new.json", "[1,\n 2", r"line 2: the file is not JSON: Expecting ',' delimiter at column 3$"),
        ("new.json", "{}", "is no list of records"),
        ("new.json", "[4]", "record 1 is 4, not an object with named fields"),
        ("new.txt", "a\tb\nc\n", r"line 2: has 1 texts; task MRPC has 2 \(sentence1, sentence2\), tab-separated"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_unlabelled(MRPC, tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("a",), "task MRPC has 2 texts .sentence1, sentence2., but 1 columns are named: a"),
        (("a", "c"), "line 1: the column 'c', for the text 'sentence2', is missing"),
    ],
)
def test_a_mistake_in_columns_is_named(tmp_path: Path, columns: tuple[str, ...], message: str) -> None:
    (tmp_path / "new.csv").write_text("a,b\nx,y\n")
    with pytest.raises(DataError, match=message):
        read_unlabelled(MRPC, tmp_path / "new.csv", columns)


def test_lines_of_text_have_no_columns() -> None:
    with pytest.raises(DataError, match="standard input: lines of text have no columns, so none is called 'a'"):
        unlabelled_lines(SST, "x\n", ("a",))
    with pytest.raises(DataError, match="standard input: is empty"):
        unlabelled_lines(SST, " \n")
    with pytest.raises(DataError, match="asks about candidates of each row; give rows with a list 'candidates'"):
        unlabelled_lines(CHOOSING, "x\n")


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (None, "'candidates' is missing; it should be a list of different texts"),
        ("x", "'candidates' is \"x\"; it should be a list"),
        ([], r"'candidates' is \[\]; it should be a list"),
        (["x", "x"], "candidate 'x' .*"),
    ],
)
def test_candidates_are_different_texts(candidates: Any, message: str) -> None:
    row = {"premise": "a", "question": "effect"} | ({} if candidates is None else {"candidates": candidates})
    with pytest.raises(DataError, match=message):
        unlabelled_rows(CHOOSING, [row])


def test_a_byte_order_mark_before_piped_lines_is_no_part_of_a_text() -> None:
    assert unlabelled_lines(SST, "\ufefffine\n").examples[0].sentences == ("fine",)
    assert unlabelled_lines(SST, '\ufeff{"sentence": "fine"}\n').examples[0].sentences == ("fine",)
