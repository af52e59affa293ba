"""`check_task` finds what is wrong with text forms."""

from __future__ import annotations

from typing import Any

import pytest

from prompts.texts import FORM, LABELS, a_task
from shoestring.prompts import check_task
from shoestring.prompts.check import limit_notes

GOLDEN: dict[str, Any] = {
    "sentences": ["a film"],
    "text": "a film It was",
    "answers": [" bad", " good"],
    "calibration": "It was",
}
CHOICE = {"prompt": "{{ text }}:", "answer": " {{ candidate }}"}


def test_a_good_text_form_has_no_problem(toy_bpe):
    task = a_task(golden=[GOLDEN])
    assert check_task(task) == []
    for kind in (None, "causal", "seq2seq", "head"):
        assert check_task(task, toy_bpe, kind) == []
    assert check_task(a_task(), toy_bpe, "causal") == []
    choice = a_task(CHOICE, kind="multiple-choice", golden=[
        {"sentences": ["x"], "text": "x:", "candidates": ["a", "b"], "answers": [" a", " b"]}])  # fmt: skip
    assert check_task(choice, toy_bpe, "causal") == []
    writes = a_task(CHOICE, kind="generation", metrics=["exact-match"], golden=[
        {"sentences": ["x"], "text": "x:", "candidates": ["a"], "answers": [" a"]}])  # fmt: skip
    assert check_task(writes, toy_bpe, "seq2seq") == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"form": {"prompt": "{{ txt }}"}}, "task toy, template 'only' (text.prompt): 'txt' is no text of the task"),
        ({"form": {"prompt": "Well"}}, "task toy, template 'only' (text): the text 'text' is never shown to the model"),
        (
            {"golden": [GOLDEN | {"text": "a film It is"}]},
            "task toy, golden 1: the prompt of the text form is 'a film It was', but the file says 'a film It is'",
        ),
        (
            {"golden": [GOLDEN | {"answers": [" bad"]}]},
            "task toy, golden 1: the answers of the text form are (' bad', ' good'), but the file says (' bad',)",
        ),
        (
            {"golden": [GOLDEN | {"calibration": "It"}]},
            "task toy, golden 1: the calibration prompt of the text form is 'It was', but the file says 'It'",
        ),
        (
            {"form": {"prompt": "{{ text }} It was"}, "golden": [GOLDEN]},
            "task toy, golden 1: task toy, template 'only' (text.calibration): there is none",
        ),
        (
            {"templates": {"only": {"causal": "*sent_0*"}}, "golden": [GOLDEN | {"causal": "a film"}]},
            "task toy, golden 1: has a text rendering, but its template has no text form",
        ),
        (
            {"form": CHOICE, "kind": "multiple-choice", "golden": [{"sentences": ["x"], "text": "x:"}]},
            "task toy, example golden 1: has no candidates to choose from",
        ),
        (
            {"golden": [{"sentences": ["x"]}]},
            "task toy, golden 1: has neither a `masked` nor a `causal` nor a `text` ren",
        ),
    ],
)
def test_a_problem_of_the_file_alone_is_named(changes, problem):
    found = check_task(a_task(changes.pop("form", None), **changes))
    assert any(text.startswith(problem) for text in found), found


@pytest.mark.parametrize(
    ("changes", "kind", "problem"),
    [
        ({"limits": {"max_tokens": 4}}, "causal", "task toy, example golden 1: the input has "),
        ({"limits": {"max_tokens": 4}, "golden": []}, "causal", "task toy, example of a text: the input has "),
        (
            {"form": FORM | {"answer": "{{ candidate[:0] }}"}},
            "causal",
            "task toy, example golden 1: its answers '' and '' have the same tok",
        ),
        ({}, "masked", "task toy: no template has a masked form"),
        (
            {"templates": {"only": {"causal": "*sent_0*"}}, "golden": []},
            "seq2seq",
            "task toy: no template has a text form",
        ),
    ],
)
def test_a_problem_with_a_tokenizer_is_named(toy_bpe, changes, kind, problem):
    task = a_task(changes.pop("form", None), **{"golden": [GOLDEN], **changes})
    found = check_task(task, toy_bpe, kind)
    assert any(text.startswith(problem) for text in found), found


def test_a_template_that_asks_for_more_than_any_text_needs_a_golden_rendering_to_be_checked(toy_bpe):
    fussy = {"prompt": "{{ {'a film': text}[text] }} It was"}
    assert check_task(a_task(fussy), toy_bpe, "causal") == []
    golden = {"sentences": ["a book"], "text": "a book It was"}
    found = check_task(a_task(fussy, golden=[golden]), toy_bpe, "causal")
    assert "the template fails: 'dict object' has no attribute 'a book'" in found[0]
    assert len(found) == 1


def test_an_end_of_text_that_the_tokenizer_lacks_is_named_with_the_template(toy_wordpiece):
    (problem,) = check_task(a_task(FORM | {"end": True}), toy_wordpiece, "causal")
    assert problem.startswith("task toy, template 'only' (text): the tokenizer has no end-of-text token")


def test_a_limit_beyond_what_the_model_reads_is_a_note(roberta):
    long = a_task(limits={"max_tokens": 2048})
    note = "task toy (text): its limit is 2048 tokens, but the model reads 512; that is the limit then"
    assert limit_notes(long, roberta, "causal") == [note]
    assert limit_notes(long, roberta, "masked") == []
    assert limit_notes(a_task(), roberta, "causal") == []
    own = a_task(limits={"max_tokens": 64}, templates={"only": {"text": FORM, "max_tokens": 600}}, labels=LABELS)
    assert limit_notes(own, roberta) == [note.replace("2048", "600")]
