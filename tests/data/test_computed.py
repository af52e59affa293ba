"""Columns that a task file computes: texts and expressions over the columns of a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shoestring.config import build
from shoestring.data.computed import computed
from shoestring.data.files import read_table
from shoestring.errors import ConfigError, DataError
from shoestring.tasks.spec import Task

ROW = {"question": "Which?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "key": "B", "one": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("question: {{ question }}", "question: Which?"),
        ("{{ question }}", "Which?"),
        ("{{ choices.text }}", ["a", "b"]),
        ("{{ choices.label.index(key) }}", 1),
        ("{{ one }}{{ one }}", "11"),
        ("{{-one}}", 1),
        ("{{- choices.text -}}", ["a", "b"]),
        ("{{+ one +}}", 1),
        ("{{ -one }}", -1),
        ("{% for text in choices.text %} {{ text }}{% endfor %}", " a b"),
    ],
)
def test_one_expression_keeps_its_kind_and_anything_else_is_text(text: str, value: object) -> None:
    assert computed(text, "here")(ROW) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ question", "here: '{{ question' is not Jinja: "),
        ("{{ quesion }}", "'quesion' is undefined; the columns are choices, key, one, question"),
        ("{{ choices.text.index('z') }}", "fails: 'z' is not in list"),
        ("{{ question.__class__.__mro__ }}", "fails: access to attribute '__class__'"),
    ],
)
def test_what_cannot_be_computed_says_why(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("{", r"\{")):
        computed(text, "here")(ROW)


def table(**source: object) -> dict[str, object]:
    files = {"folder": "", "format": "jsonl", "files": {"train": "x.jsonl"}, "sentences": ["Q: {{ question }}"]}
    template = {"t": {"text": {"prompt": "{{ question }}"}}}
    return {
        "name": "mine",
        "kind": "multiple-choice",
        "sentences": ["question"],
        "templates": template,
        "sources": {"files": files | source},
    }


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_file_of_records_is_read_through_computed_columns(tmp_path: Path) -> None:
    task = build(Task, table(candidates="{{ choices.text }}", label="{{ choices.label.index(key) }}"), "test")
    assert task.sources.files is not None
    (example,) = read_table(task, task.sources.files, write(tmp_path / "x.jsonl", ROW), "train").all()
    assert (example.sentences, example.candidates, example.golds) == (("Q: Which?",), ("a", "b"), ("b",))


def test_a_label_may_be_the_candidate_itself(tmp_path: Path) -> None:
    task = build(Task, table(candidates="{{ choices.label }}", label="key"), "test")
    assert task.sources.files is not None
    (example,) = read_table(task, task.sources.files, write(tmp_path / "x.jsonl", ROW), "train").all()
    assert example.golds == ("B",)


def test_rows_of_labels_that_are_skipped_are_left_out(tmp_path: Path) -> None:
    made = table(candidates="{{ choices.text }}", label="one", skip_labels=["0"])
    task = build(Task, made, "test")
    assert task.sources.files is not None
    found = read_table(task, task.sources.files, write(tmp_path / "x.jsonl", ROW, ROW | {"one": 0}, ROW), "train")
    assert [example.golds for example in found.all()] == [("b",), ("b",)]


def test_columns_of_a_table_cannot_be_computed() -> None:
    made = table(format="tsv", header=True, candidates=["a", "b"], label="label")
    with pytest.raises(ConfigError, match=r"'Q: \{\{ question \}\}' is computed, which is for json and jsonl files"):
        build(Task, made, "test")
    made = table(candidates=["a", "b"], golds="gold", skip_labels=["x"])
    with pytest.raises(ConfigError, match="`skip_labels` leaves out labels, but there is no `label`"):
        build(Task, made, "test")
