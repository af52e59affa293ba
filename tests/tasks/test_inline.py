from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from shoestring.data.files import read_table
from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.errors import ConfigError
from shoestring.tasks.inline import InlineSettings, TextSettings, inline_task, text_names, text_task

if TYPE_CHECKING:
    from pathlib import Path


def settings(**changes: object) -> InlineSettings:
    given = {
        "file": "data/reviews.csv",
        "text_columns": ("review",),
        "template": "*cls**sent_0*_It_was*mask*.*sep+*",
        "label_words": "negative=terrible,positive=great",
    }
    return InlineSettings.model_validate(given | changes)


def test_a_task_is_made_of_a_file_its_columns_a_template_and_label_words() -> None:
    task = inline_task(settings())
    assert task.name == "reviews"
    assert task.sentences == ("review",)
    assert task.label_names == ("negative", "positive")
    assert task.label_words(task.template()) == ("terrible", "great")
    assert task.template().masked == "*cls**sent_0*_It_was*mask*.*sep+*"
    files = task.sources.files
    assert files is not None
    assert (files.format, files.header, files.sentences, files.label) == ("csv", True, ("review",), "label")


def test_label_words_without_labels_stand_for_0_1_and_so_on() -> None:
    assert inline_task(settings(label_words="bad, okay, good")).label_names == ("0", "1", "2")


def test_a_template_without_a_mask_is_a_causal_one() -> None:
    form = inline_task(settings(template="*bos**sent_0*_It_was")).template()
    assert (form.masked, form.causal, form.answer) == (None, "*bos**sent_0*_It_was", " {word}")


def test_after_a_line_break_the_answer_has_no_space() -> None:
    assert inline_task(settings(template="*sent_0*_Good?\n")).template().answer == "{word}"
    assert inline_task(settings(template="*sent_0*_Good?\n", answer="> {word}")).template().answer == "> {word}"


BAD = {
    "kind of file": ({"file": "reviews.cvs"}, "'reviews.cvs' is of an unknown kind; did you mean 'csv'"),
    "colons": ({"label_words": "0:terrible, 1:great"}, "'0:terrible' is read as one word; write 0=terrible"),
    "half named": ({"label_words": "0=terrible,great"}, "'great' has no label; write label=word for every one"),
    "one label": ({"label_words": "terrible"}, "'terrible' is one label; a task needs two or more"),
    "empty word": ({"label_words": "0=terrible,1="}, "a label or a word is empty"),
    "label twice": ({"label_words": "0=terrible,0=great"}, "a label stands twice"),
    "word twice": ({"label_words": "0=great,1=great"}, "label word 'great' stands twice"),
    "label is text": ({"label_column": "review"}, "'review' is one of the text columns"),
    "final space": ({"template": "*sent_0*_It_was_"}, "ends in a space"),
    "metric": ({"metrics": ("f2",)}, "there is no metric 'f2'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_task_on_the_command_line_is_refused(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        inline_task(settings(**changes))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="3 problems"):
        inline_task(settings(file="a.txt", label_words="x", label_column="review"))


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_file_of_records_has_no_header(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"remarks.{kind}"
    rows = [{"text": f"t{row}", "mood": row % 2} for row in range(8)]
    path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    given = settings(file=str(path), text_columns=("text",), label_column="mood", label_words="bad,good")
    splits = draw(inline_task(given), DataSettings(source=str(path), k=1), 13)
    assert {example.label for example in splits.train} == {"0", "1"}
    assert len(splits.tests["test"]) == 4


# Answers that are texts


def texts(**changes: object) -> TextSettings:
    given = {"file": "data/questions.jsonl", "inputs": ("question",), "outputs": "answer"}
    return TextSettings.model_validate(given | changes)


def test_questions_and_answers_make_a_generation_task_whose_answers_end_with_a_line() -> None:
    task = text_task(texts())
    form = task.template().text
    assert form is not None
    assert (task.name, task.kind, task.metrics) == ("questions", "generation", ("token-f1", "exact-match"))
    assert (form.prompt, form.answer) == ("Question: {{ question }}\nAnswer:", " {{ candidate }}\n")
    assert task.limits.max_tokens == 2048
    files = task.sources.files
    assert files is not None
    assert (files.golds, files.label, files.header) == ("answer", None, False)


def test_what_is_given_goes_before_what_is_usual() -> None:
    task = text_task(
        texts(template="{{ question }}\n", answer="{{ candidate }}!", name="q", max_tokens=9, metrics=("rouge-l",))
    )
    form = task.template().text
    assert form is not None
    assert (form.prompt, form.answer) == ("{{ question }}\n", "{{ candidate }}!")
    assert (task.name, task.limits.max_tokens, task.metrics) == ("q", 9, ("rouge-l",))


def test_candidates_make_a_multiple_choice_task() -> None:
    task = text_task(texts(file="q.csv", candidates=("A", "B"), numbered=True))
    files = task.sources.files
    assert files is not None
    assert (task.kind, files.candidates, files.label) == ("multiple-choice", ("A", "B"), "answer")
    assert files.labels == {"A": "A", "B": "B", "0": "A", "1": "B"}
    counted = text_task(
        texts(file="q.csv", header=False, inputs=("0",), outputs="-1", candidates=("1", "2"), numbered=True)
    )
    assert counted.sources.files is not None
    assert counted.sources.files.labels == {"0": "1", "1": "2"}


def test_candidates_in_columns_that_are_called_by_numbers_are_right_by_name(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("question,1,2,3,right\nWhat is blue?,fire,sky,coal,2\nWhat is red?,fire,sky,coal,1\n")
    task = text_task(texts(file=str(path), outputs="right", candidates=("1", "2", "3"), numbered=True))
    source = task.sources.files
    assert source is not None
    assert [example.label for example in read_table(task, source, path, "train").all()] == ["sky", "fire"]


def test_labels_may_be_asked_for_in_jinja() -> None:
    form = inline_task(settings(template="{{ review }}\n")).template()
    assert form.masked is None
    assert form.text is not None
    assert form.text.answer == "{{ candidate }}"
    assert inline_task(settings(template="{{ review }} So")).limits.max_tokens == 2048


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (["text"], ("text",)),
        (["my text", "target.span1"], ("my_text", "target_span1")),
        (["{{ a[0] }}"], ("input",)),
        (["1st", "candidate", "not", "été"], ("input_0", "input_1", "input_2", "été")),
    ],
)
def test_templates_call_texts_by_names_that_are_words(columns: list[str], names: tuple[str, ...]) -> None:
    assert text_names(columns) == names


BAD_TEXTS = {
    "star": ({"template": "*sent_0*"}, "shows no text; where answers are texts, write it in Jinja: {{ question }}"),
    "names alike": ({"inputs": ("a b", "a_b")}, "sentence 'a_b' stands twice"),
    "position": ({"file": "q.csv", "header": False}, "inputs: 'question' is no number"),
    "metric": ({"metrics": ("accuracy",)}, "metric 'accuracy' is not for generation"),
    "list in csv": ({"file": "q.csv", "candidates": ("A",)}, "candidates are two columns or more"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_wrong_task_of_texts_is_refused(case: str) -> None:
    changes, message = BAD_TEXTS[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        text_task(texts(**changes))
