from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.data.files import read_table
from shoestring.data.json_lines import line_of
from shoestring.data.table import Table
from shoestring.errors import DataError
from shoestring.tasks.spec import FileSource, Label, Task

if TYPE_CHECKING:
    from pathlib import Path

PAIR = Task(
    name="pair",
    sentences=("first", "second"),
    labels=(Label(name="true", word="Yes"), Label(name="false", word="No")),
)
WRITE = Task(name="write", kind="generation", sentences=("passage", "question"), metrics=("token-f1",))


def layout(kind: str, **changes: object) -> FileSource:
    given: dict[str, object] = {"folder": "", "format": kind, "sentences": ("a", "b"), "files": {"train": "x"}}
    return FileSource.model_validate(given | ({"label": "label"} if "golds" not in changes else {}) | changes)


def read(tmp_path: Path, text: str, kind: str, task: Task = PAIR, split: str = "train", **changes: object) -> Table:
    path = tmp_path / f"x.{kind}"
    path.write_text(text, encoding="utf-8")
    return read_table(task, layout(kind, **changes), path, split)


def rows(table: Table) -> list[tuple[tuple[str, ...], str | float]]:
    return [(example.sentences, example.label) for example in table.all()]


def test_fields_of_fields_are_read_by_dotted_names(tmp_path: Path) -> None:
    row = {"a": "x", "target": {"span": {"text": "y"}}, "out": {"right": "true"}}
    found = read(tmp_path, json.dumps(row), "jsonl", sentences=("a", "target.span.text"), label="out.right")
    assert rows(found) == [(("x", "y"), "true")]


def test_a_field_whose_own_name_has_a_dot_comes_first(tmp_path: Path) -> None:
    row = {"a": {"b": "inner"}, "a.b": "own", "label": "true"}
    assert rows(read(tmp_path, json.dumps(row), "jsonl", sentences=("a.b", "a.b"))) == [(("own", "own"), "true")]


@pytest.mark.parametrize(("label", "name"), [(True, "true"), (False, "false"), (1, "true"), ("no", "false")])
def test_labels_of_any_kind_are_mapped_to_the_tasks(label: object, name: str, tmp_path: Path) -> None:
    table = {"1": "true", "no": "false", "true": "true", "false": "false"}
    row = json.dumps({"a": "x", "b": "y", "label": label})
    assert rows(read(tmp_path, row, "jsonl", labels=table)) == [(("x", "y"), name)]


def test_characters_of_two_escapes_and_escaped_backslashes_are_text(tmp_path: Path) -> None:
    row = r'{"a": "\ud83d\ude00", "b": "\\ud83d", "label": true}'
    assert rows(read(tmp_path, row, "jsonl")) == [(("\U0001f600", r"\ud83d"), "true")]


def test_truth_values_are_labels_as_json_writes_them(tmp_path: Path) -> None:
    assert rows(read(tmp_path, '{"a": "x", "b": "y", "label": false}', "jsonl")) == [(("x", "y"), "false")]


NESTED = {
    "title": "T",
    "passage": {
        "text": "P",
        "questions": [
            {"question": "Q0", "answers": [{"text": "A0", "label": 0}, {"text": "A1", "label": 1}]},
            {"question": "Q1", "answers": [{"text": "A2", "label": 1}]},
        ],
    },
}
SHAPE: dict[str, Any] = {
    "each": ("passage.questions", "answers"),
    "sentences": ("passage.text", "text"),
    "labels": {"0": "false", "1": "true"},
}


def test_lists_within_lists_become_rows_and_names_are_looked_up_from_the_inside_out(tmp_path: Path) -> None:
    found = read(tmp_path, f"{json.dumps(NESTED)}\n{json.dumps(NESTED)}\n", "jsonl", **SHAPE)
    one = [(("P", "A0"), "false"), (("P", "A1"), "true"), (("P", "A2"), "true")]
    assert rows(found) == one * 2
    assert [example.uid for example in found.all()] == [f"train:{row}" for row in range(6)]
    assert found.keys == ("false", "true", "true") * 2
    outer = read(tmp_path, json.dumps(NESTED), "jsonl", **{**SHAPE, "sentences": ("title", "question")})
    assert [sentences for sentences, _ in rows(outer)] == [("T", "Q0"), ("T", "Q0"), ("T", "Q1")]


def test_a_json_document_is_a_list_of_records_or_what_each_leads_to(tmp_path: Path) -> None:
    records = [{"a": "x", "b": "y", "label": True}, {"a": "v", "b": "w", "label": False}]
    wanted = [(("x", "y"), "true"), (("v", "w"), "false")]
    assert rows(read(tmp_path, json.dumps(records), "json")) == wanted
    assert rows(read(tmp_path, json.dumps({"version": 1, "data": records}), "json", each=("data",))) == wanted
    assert rows(read(tmp_path, json.dumps({"p": {"rows": records}}), "json", each=("*", "rows"))) == wanted
    assert rows(read(tmp_path, f"\ufeff{json.dumps(records)}", "json")) == wanted


def test_squads_own_file_gives_title_context_question_and_all_answers(tmp_path: Path) -> None:
    def question(number: int, *answers: str) -> dict[str, object]:
        return {"id": str(number), "question": f"Q{number}", "answers": [{"text": text} for text in answers]}

    paragraphs = [{"context": "C0", "qas": [question(0, "a", "b"), question(1, "c")]}, {"context": "C1", "qas": []}]
    document = {"version": "1.1", "data": [{"title": "T0", "paragraphs": paragraphs}]}
    shape = {"each": ("data", "paragraphs", "qas"), "sentences": ("context", "question"), "golds": "answers.text"}
    found = read(tmp_path, json.dumps(document), "json", WRITE, **shape)
    assert [(one.sentences, one.golds, one.label) for one in found.all()] == [
        (("C0", "Q0"), ("a", "b"), "a"), (("C0", "Q1"), ("c",), "c"),
    ]  # fmt: skip
    assert found.keys == ("", "")


def drop(split: str, tmp_path: Path, *pairs: dict[str, object]) -> list[tuple[str, ...]]:
    full = [{"question": "Q", **pair} for pair in pairs]
    document = {"id_1": {"passage": "P", "qa_pairs": full}, "id_2": {"passage": "P2", "qa_pairs": full[:1]}}
    shape = {"each": ("*", "qa_pairs"), "derive": "drop", "sentences": ("passage", "question"), "golds": "answers"}
    table = read(tmp_path, json.dumps(document), "json", WRITE, split, **shape)
    assert [example.uid for example in table.all()] == [f"{split}:{row}" for row in range(len(table.examples))]
    return [example.golds for example in table.all()]


def said(number: str = "", spans: tuple[str, ...] = (), **date: str) -> dict[str, object]:
    return {"number": number, "spans": list(spans), "date": {"day": "", "month": "", "year": ""} | date}


def test_drops_answers_are_numbers_dates_and_spans_as_texts(tmp_path: Path) -> None:
    answers = [
        said("3"),
        said(spans=("a", "b")),
        said(day="9", month="March", year="2021"),
        said(month="March", year="2021"),
        said(day="9", year="2021"),
        said(year="2021"),
    ]
    found = drop("train", tmp_path, *({"answer": answer, "validated_answers": [said("0")]} for answer in answers))
    # A missing month leaves its two spaces, as in the hub's data.
    wanted = [("3",), ("a", "b"), ("9 March 2021",), ("March 2021",), ("9  2021",), ("2021",)]
    assert found == [*wanted, ("3",)]


def test_drops_validated_answers_stand_for_the_answer_outside_train(tmp_path: Path) -> None:
    pair = {"answer": said("3"), "validated_answers": [said("4"), said(spans=("four",))]}
    assert drop("test", tmp_path, pair) == [("4", "four")] * 2
    assert drop("train", tmp_path, pair) == [("3",)] * 2
    assert drop("test", tmp_path, {"answer": said("3")}, {"answer": said("5"), "validated_answers": []}) == [
        ("3",), ("5",), ("3",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer", [said("3", ("three",)), said("3", year="2021"), said(spans=("x",), year="2021"), said()]
)
def test_drops_answers_that_are_several_things_or_none_are_left_out(answer: object, tmp_path: Path) -> None:
    assert drop("train", tmp_path, {"answer": said("1")}, {"answer": answer}, {"answer": said("2")}) == [
        ("1",), ("2",), ("1",),
    ]  # fmt: skip


CHOOSE = Task(name="choose", kind="multiple-choice", sentences=("passage", "query"))


def test_records_entities_are_the_candidates_each_once(tmp_path: Path) -> None:
    text = "Bob met Ann. Bob left."
    spans = [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 13, "end": 15}]
    answers = [{"start": 0, "end": 2, "text": "Bob"}, {"start": 13, "end": 15, "text": "Bob"}]
    queries = [{"query": "@placeholder left", "answers": answers}, {"query": "q", "answers": [{"text": "Ann"}]}]
    row = {"source": "s", "passage": {"text": text, "entities": spans}, "qas": queries}
    shape = {"each": ("qas",), "derive": "record", "sentences": ("passage.text", "query")}
    found = read(tmp_path, json.dumps(row), "jsonl", CHOOSE, **shape, candidates="candidates", golds="golds")
    assert [(one.sentences, one.candidates, one.golds) for one in found.all()] == [
        ((text, "@placeholder left"), ("Ann", "Bob"), ("Bob",)),
        ((text, "q"), ("Ann", "Bob"), ("Ann",)),
    ]


@pytest.mark.parametrize(
    ("span", "index", "fixed"),
    [
        ("The table", 5, "the table"),
        ("the Man", 0, "The Man"),
        ("The Man", 0, "The Man"),
        ("table.", 6, "table"),
        ("The\ntable", 5, "the table"),
        ("Kamenev and Zinoviev", 0, "Kamenev and Zinoviev"),
    ],
)
def test_wsc_spans_are_corrected_as_on_the_hub(span: str, index: int, fixed: str, tmp_path: Path) -> None:
    target = {"span1_text": span, "span1_index": index, "span2_text": "It", "span2_index": 9}
    row = {"text": "The Man put it on the table because It fell", "target": target, "label": True}
    found = read(tmp_path, json.dumps(row), "jsonl", derive="wsc-fixed", sentences=("span1_text", "span2_text"))
    assert rows(found) == [((fixed, "It"), "true")]


def test_a_text_may_be_empty_where_the_task_file_says_so(tmp_path: Path) -> None:
    row = '{"a": "", "b": " ", "label": true}'
    assert rows(read(tmp_path, row, "jsonl", allow_empty=True)) == [(("", " "), "true")]
    shape: dict[str, Any] = {"golds": "label", "allow_empty": True}
    empty = read(tmp_path, '{"a": "x", "b": "y", "label": ["", "z"]}', "jsonl", WRITE, **shape)
    assert empty.all()[0].golds == ("", "z")


GOOD = '{"a": "x", "b": "y", "label": true}'
BAD: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "field missing in one row": ("jsonl", f'{GOOD}\n{{"a": "x", "label": true}}', r"x\.jsonl, line 2: .*'b'", {}),
    "near field": ("jsonl", '{"a": "x", "bb": "y", "label": true}', r"no field 'b'; did you mean 'bb'", {}),
    "field of no record": ("jsonl", GOOD, r"line 1: there is no field 'a\.c'", {"sentences": ("a.c", "b")}),
    "empty row": ("jsonl", f"{GOOD}\n\n{GOOD}", r"line 2: the row is empty", {}),
    "not json": ("jsonl", '{"a"}', r"line 1: the row is not JSON: .* at column", {}),
    "half a character": (
        "jsonl",
        f'{GOOD}\n{{"a": "\\ud83d\\ude00", "b": "\\\\ud83d oh \\ud83d", "label": true}}',
        r"line 2: the row holds half a character, \\ud83d: a text was cut within an emoji",
        {},
    ),
    "half a character in a document": (
        "json",
        '[\n{"a": "\\ud83d\\ude00",\n "b": "x \\uDE00", "label": true}]',
        r"line 3: the file holds half a character, \\uDE00",
        {},
    ),
    "endless number": ("jsonl", f'{{"a": {"1" * 5000}}}', r"line 1: the row cannot be read: Exceeds the limit", {}),
    "endless lists": ("jsonl", "[" * 100_000, r"line 1: the row cannot be read: maximum recursion depth", {}),
    "list for a row": ("jsonl", "[1]", r"line 1: the row is not a JSON object but \[1\]", {}),
    "number for a text": ("jsonl", '{"a": 3, "b": "y", "label": true}', r"the field 'a' is not text but 3", {}),
    "empty text": ("jsonl", '{"a": "x", "b": " ", "label": true}', r"line 1: the text 'second' is empty", {}),
    "unknown label": ("jsonl", '{"a": "x", "b": "y", "label": 1}', r"'1' is not a label of pair", {}),
    "unmapped label": (
        "jsonl",
        '{"a": "x", "b": "y", "label": 2}',
        r"line 1: '2' is not a label of pair there\. Allowed: 0, 1",
        {"labels": {"0": "false", "1": "true"}},
    ),
    "broken document": ("json", '[\n{"a": 1},\n]', r"x\.json, line 3: the file is not JSON", {}),
    "nothing in the document": ("json", "[]", r"x\.json: holds no rows", {}),
    "number in the document": ("json", f"[\n{GOOD},\n7]", r"line 3: \[1\]: it is not a JSON object but 7", {}),
    "no list": ("jsonl", '{"rows": 3}', r"line 1: the field 'rows' is not a list but 3", {"each": ("rows",)}),
    "rows of an outer record": (
        "jsonl",
        '{"rows": [{"a": 1}], "parts": [{"row": []}]}',
        r"line 1: parts\[0\]: there is no field 'rows'; did you mean 'row'",
        {"each": ("parts", "rows")},
    ),
    "no rows field": ("jsonl", '{"row": []}', r"no field 'rows'; did you mean 'row'", {"each": ("rows",)}),
    "each of no table": ("json", '{"p": [1]}', r"p: it is not a JSON object but \[1\]", {"each": ("*",)}),
    "rule without its field": ("jsonl", GOOD, r"no field 'passage', which derive='record' needs", {"derive": "record"}),
    "rule on other things": (
        "jsonl",
        '{"a": "x", "b": "y", "label": true, "text": "t", "target": 3}',
        r"line 1: derive='wsc-fixed' does not fit",
        {"derive": "wsc-fixed"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_line(case: str, tmp_path: Path) -> None:
    kind, text, message, changes = BAD[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, kind, **changes)


def test_a_row_within_a_row_is_named_by_its_line_and_its_place(tmp_path: Path) -> None:
    broken = json.loads(json.dumps(NESTED))
    del broken["passage"]["questions"][1]["answers"][0]["label"]
    text = f"{json.dumps(NESTED)}\n{json.dumps(broken)}"
    with pytest.raises(DataError, match=r"line 2: passage\.questions\[1\]\.answers\[0\]: there is no field 'label'"):
        read(tmp_path, text, "jsonl", **SHAPE)
    document = json.dumps({"data": [NESTED, broken]}, indent=1)
    (line,) = [at for at, row in enumerate(document.splitlines(), 1) if '"text": "A2"' in row][1:]
    where = rf"line {line - 1}: data\[1\]\.passage\.questions\[1\]\.answers\[0\]: there is no field 'label'"
    with pytest.raises(DataError, match=where):
        read(tmp_path, document, "json", **{**SHAPE, "each": ("data", "passage.questions", "answers")})


plain = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(value=values, indent=st.sampled_from([None, 1, "\t"]))
def test_every_value_of_a_document_is_found_on_its_line(value: Any, indent: Any) -> None:
    marker, count = "\u0001here", 0

    def marked(part: Any, keys: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
        """Return the ways to all values inside of `part`."""
        inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        return [keys, *(way for key, item in inner for way in marked(item, (*keys, key)))]

    for way in marked(value, ()):
        if not way:
            continue
        document = json.loads(json.dumps(value))
        place = document
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = marker
        text = json.dumps(document, indent=indent)
        assert line_of(text, way) == text[: text.index(json.dumps(marker))].count("\n") + 1
        count += 1
    assert count == len(marked(value, ())) - 1
