from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.data.files import MISSING, read_file, read_table
from shoestring.errors import DataError
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import FileSource, Label, Range, Task

if TYPE_CHECKING:
    from pathlib import Path

PAIR = Task(
    name="pair",
    sentences=("first", "second"),
    labels=(Label(name="yes", word="Yes"), Label(name="no", word="No")),
)


def layout(kind: str, **changes: object) -> FileSource:
    given: dict[str, object] = {
        "folder": "",
        "format": kind,
        "header": kind != "jsonl",
        "sentences": ("a", "b"),
        "label": "label",
        "files": {"train": "x"},
    }
    return FileSource.model_validate(given | changes)


def read(tmp_path: Path, text: str | bytes, kind: str, task: Task = PAIR, **changes: object):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(task, layout(kind, **changes), path, "train")


def rows(table) -> list[tuple[tuple[str, ...], str | float]]:
    return [(example.sentences, example.label) for example in table.all()]


def test_a_tsv_row_keeps_its_quotation_marks(tmp_path: Path) -> None:
    table = read(tmp_path, 'a\tb\tlabel\n"He\tsaid" so\tyes\n', "tsv")
    assert rows(table) == [(('"He', 'said" so'), "yes")]


def test_a_csv_field_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b,label\n"x, ""y""\nz",w,no\n', "csv")
    assert rows(table) == [(('x, "y"\nz', "w"), "no")]


def test_a_jsonl_row_is_an_object_whose_label_may_be_a_number(tmp_path: Path) -> None:
    task = PAIR.model_copy(update={"labels": (Label(name="0", word="No"), Label(name="1", word="Yes"))})
    table = read(tmp_path, '{"a": "x", "b": "y\\n", "label": 1, "more": null}\n', "jsonl", task)
    assert rows(table) == [(("x", "y\n"), "1")]


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(kind: str, tmp_path: Path) -> None:
    comma = "\t" if kind == "tsv" else ","
    table = read(tmp_path, f"\ufeffa{comma}b{comma}label\nx{comma}y{comma}yes\n", kind)
    assert rows(table) == [(("x", "y"), "yes")]
    table = read(tmp_path, f"\ufeffx{comma}y{comma}yes\n", kind, header=False, sentences=(0, 1), label=2)
    assert rows(table) == [(("x", "y"), "yes")]


def test_windows_and_old_mac_line_ends_end_a_tsv_line_and_nothing_else_does(tmp_path: Path) -> None:
    table = read(tmp_path, "a\tb\tlabel\r\nx\x85\u2028\ty\x0b\tyes\rv\tw\tno", "tsv")
    assert rows(table) == [(("x\x85\u2028", "y\x0b"), "yes"), (("v", "w"), "no")]


def test_uids_are_the_split_and_the_row(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b,label\nx,y,yes\nv,w,no\n", "csv")
    assert [example.uid for example in table.all()] == ["train:0", "train:1"]


def test_qqp_rows_too_short_are_skipped_and_keep_their_number(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("id\tq1\tq2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\tx?\n8\t1\t2\tx?\ty?\t1\n")
    task = load_task("QQP")
    assert task.sources.files is not None
    table = read_table(task, task.sources.files, path, "train")
    assert [(example.uid, example.label) for example in table.all()] == [("train:1", "1")]
    assert table.keys == ("x?", "1")


def test_a_row_too_short_for_its_label_has_no_key(tmp_path: Path) -> None:
    table = read(tmp_path, "a\tb\tlabel\nx\ty\nx\ty\tyes\n", "tsv", skip_short_rows=True)
    assert table.keys == ("", "yes")
    assert len(table.all()) == 1


def test_texts_that_pandas_reads_as_missing_are_empty_in_the_published_csv_only(tmp_path: Path) -> None:
    text = "a,b,label\nNA,None,yes\nnull,y,no\n"
    assert rows(read(tmp_path, text, "csv", allow_empty=True)) == [(("", "None"), "yes"), (("", "y"), "no")]
    assert rows(read(tmp_path, text, "csv")) == [(("NA", "None"), "yes"), (("null", "y"), "no")]


def test_the_missing_values_are_those_of_pandas_but_for_the_later_none(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "x.csv"
    tried = sorted({*MISSING, "none", "Null", "na", "nil", " NA", "-", "N.A."})
    path.write_text("".join(f"0,{text}\n" for text in tried))
    frame = pandas.read_csv(path, header=None)
    assert {text for text, gone in zip(tried, frame[1].isna(), strict=True) if gone} == MISSING


def test_a_text_may_be_as_long_as_a_book_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    long, before = "word " * 30_000, csv.field_size_limit()
    assert rows(read(tmp_path, f"a,b,label\n{long},y,yes\n", "csv")) == [((long, "y"), "yes")]
    with pytest.raises(DataError, match="line 2: the row is not csv"):
        read(tmp_path, f'a,b,label\n"{long},y,yes\n', "csv")
    assert csv.field_size_limit() == before


SCORE = PAIR.model_copy(update={"kind": "regression", "range": Range(low=0, high=5, threshold=2.5)})


def test_values_are_numbers_and_are_grouped_by_the_pole_they_are_nearer_to(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b,label\nx,y,2.4\nx,y,2.5\n", "csv", SCORE)
    assert rows(table) == [(("x", "y"), 2.4), (("x", "y"), 2.5)]
    assert table.keys == ("yes", "no")


BAD = {
    "empty file": ("csv", "", "x.csv: is empty", {}),
    "blank file": ("tsv", " \n\n", "x.tsv: is empty", {}),
    "header only": ("csv", "a,b,label\n", "has a header but no rows", {}),
    "empty row": ("csv", "a,b,label\nx,y,yes\n\nv,w,no\n", "x.csv, line 3: the row is empty", {}),
    "empty tsv row": ("tsv", "a\tb\tlabel\nx\ty\tyes\n\n", "x.tsv, line 3: the row is empty", {}),
    "empty jsonl row": ("jsonl", '{"a":"x","b":"y","label":"yes"}\n\n', "x.jsonl, line 2: the row is empty", {}),
    "short row": ("tsv", "a\tb\tlabel\nx\tyes\n", "x.tsv, line 2: the row has 2 columns, not 3", {}),
    "long row": ("csv", "a,b,label\nx,y,yes,z\n", "x.csv, line 2: the row has 4 columns, not 3", {}),
    "line after a long text": ("csv", 'a,b,label\n"x\nx",y,yes\nx\n', "x.csv, line 4: the row has 1 column, not 3", {}),
    "short ragged row": (
        "tsv",
        "a\tb\tlabel\nx\tyes\n",
        "line 2: the row has 2 columns, not at least 3",
        {"ragged": True, "label": -1, "sentences": (0, 1)},
    ),
    "open quote": ("csv", 'a,b,label\nx,y,yes\n"v,w,no\n', "x.csv, line 3: the row is not csv: .*quotation mark", {}),
    "text after quote": ("csv", 'a,b,label\n"x"x,y,yes\n', "x.csv, line 2: the row is not csv", {}),
    "unknown label": ("csv", "a,b,label\nx,y,yse\n", "line 2: 'yse' is not a label of pair; did you mean 'yes'", {}),
    "spaced label": ("csv", "a,b,label\nx,y, yes\n", "line 2: ' yes' is not a label of pair", {}),
    "missing column": ("csv", "a,bb,label\nx,y,yes\n", "line 1: the column 'b' is missing; did you mean 'bb'", {}),
    "column twice": ("csv", "a,a,label\nx,y,yes\n", "line 1: the column 'a' stands twice", {"sentences": ("a", 1)}),
    "empty text": ("csv", "a,b,label\nx, ,yes\n", "x.csv, line 2: the text 'second' is empty", {}),
    "undecodable": ("tsv", b"a\tb\tlabel\nx\ty\tyes\nx\t\xe9\tno\n", "x.tsv, line 3: byte 0xe9 is not UTF-8", {}),
    "not json": ("jsonl", '{"a": "x", "b"}\n', "x.jsonl, line 1: the row is not JSON: .* at column", {}),
    "not an object": ("jsonl", '["x"]\n', "line 1: the row is not a JSON object but", {}),
    "no field": ("jsonl", '{"a":"x","c":"y","label":"yes"}', "line 1: there is no field 'b'", {}),
    "no text": ("jsonl", '{"a":"x","b":3,"label":"yes"}', "line 1: the field 'b' is not text but 3", {}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_line(case: str, tmp_path: Path) -> None:
    kind, text, message, changes = BAD[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, kind, **changes)


@pytest.mark.parametrize("value", ["much", "nan", "-0.1", "5.1", "inf"])
def test_a_value_out_of_range_is_refused_with_its_line(value: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"line 2: got '{value}' as the value. Allowed: a number from 0 to 5"):
        read(tmp_path, f"a,b,label\nx,y,{value}\n", "csv", SCORE)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x")
    with pytest.raises(DataError, match=r"there is no such file; did you mean 'train.csv'"):
        read_file(tmp_path / "trian.csv", layout("csv"))


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path, layout("csv"))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\x00"), min_size=1).filter(str.strip)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(content=st.lists(st.tuples(texts, texts, st.sampled_from(["yes", "no"])), min_size=1, max_size=6))
def test_what_is_written_is_read_whatever_the_format(content: list[tuple[str, str, str]], tmp_path_factory) -> None:
    import csv
    import json

    folder = tmp_path_factory.mktemp("round")
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b", "label"), *content])
    tsv = "".join("\t".join(row) + "\n" for row in [("a", "b", "label"), *content])
    (folder / "x.tsv").write_text(tsv, encoding="utf-8")
    records = [json.dumps({"a": a, "b": b, "label": label}) for a, b, label in content]
    (folder / "x.jsonl").write_text("\n".join(records), encoding="utf-8")
    for kind in ("csv", "tsv", "jsonl"):
        table = read_table(PAIR, layout(kind), folder / f"x.{kind}", "train")
        assert rows(table) == [((a, b), label) for a, b, label in content]
