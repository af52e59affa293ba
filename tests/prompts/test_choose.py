"""Which template and which form of it a model is asked with."""

from __future__ import annotations

from typing import Any

import pytest

from prompts.texts import LABELS
from shoestring.errors import TemplateError, UnknownNameError
from shoestring.prompts.choose import choose
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.spec import Task

MASKED, CAUSAL, TEXT = {"masked": "*sent_0**mask*"}, {"causal": "*sent_0*"}, {"text": {"prompt": "{{ text }}"}}


def a_task(**templates: dict[str, Any]) -> Task:
    return Task.model_validate({"name": "toy", "sentences": ["text"], "labels": LABELS, "templates": templates})


def found(task: Task, kind: Any, **settings: Any) -> tuple[str, str]:
    chosen = choose(task, kind, PromptSettings.model_validate(settings))
    return chosen.name, chosen.form


def test_the_first_template_with_a_form_for_the_model_is_taken():
    task = a_task(a=MASKED, b=CAUSAL, c=MASKED | TEXT, d=CAUSAL | TEXT)
    assert found(task, "masked") == ("a", "masked")
    assert found(task, "causal") == ("b", "causal")
    assert found(task, "seq2seq") == ("c", "text")
    assert found(task, "causal", template="d") == ("d", "text")


def test_demonstrations_decide_among_the_forms():
    task = a_task(a=CAUSAL | TEXT, b=CAUSAL)
    assert found(task, "causal") == ("a", "text")
    assert found(task, "causal", demonstrations={"kind": "gpt3"}) == ("a", "causal")
    assert found(a_task(b=CAUSAL, a=TEXT), "causal", demonstrations={"kind": "in-context"}) == ("a", "text")
    assert found(a_task(b=CAUSAL), "causal", demonstrations={"kind": "in-context"}) == ("b", "causal")


def test_templates_can_be_written_out():
    task = a_task(a=MASKED)
    chosen = choose(task, "causal", PromptSettings(template="{{ text }}?", answer=" {{ candidate }}!"))
    assert (chosen.form, chosen.text.prompt, chosen.text.answer) == ("text", "{{ text }}?", " {{ candidate }}!")
    assert found(task, "causal", template="*sent_0*_So") == ("given in the settings", "causal")
    with pytest.raises(TemplateError, match=r"template '\{\{ text \}\}' has no masked form; choose one that has: a"):
        found(task, "masked", template="{{ text }}")
    with pytest.raises(TemplateError, match=r"template '\*sent_0\*' has no text form; write one: text\.prompt"):
        found(task, "seq2seq", template="*sent_0*")


def test_a_form_that_is_not_there_is_named_with_what_there_is():
    with pytest.raises(
        TemplateError, match=r"task toy: template 'a' has no masked form; write one that has one `.mask.`"
    ):
        found(a_task(a=TEXT), "masked")
    with pytest.raises(TemplateError, match=r"task toy: no template has a text form; write one: text\.prompt"):
        found(a_task(a=MASKED, b=CAUSAL), "seq2seq")
    with pytest.raises(TemplateError, match="template 'a' has no causal or text form; choose one that has: b"):
        found(a_task(a=MASKED, b=TEXT), "causal", template="a")
    with pytest.raises(UnknownNameError, match="unknown template 'c'"):
        found(a_task(a=MASKED), "masked", template="c")
    with pytest.raises(UnknownNameError, match="unknown template 'default'"):
        found(a_task(), "masked")


def test_a_misspelt_mask_is_named_where_it_leaves_no_masked_form():
    misspelt = {"causal": "*cls**sent_0*_It_was*msk*.*sep+*"}
    pointed = r"there is no token `\*msk\*`; did you mean '\*mask\*'\?(.|\n)*\n {24}\^{5}$"
    with pytest.raises(TemplateError, match=r"task toy, template 'a' \(causal\): " + pointed):
        found(a_task(a=misspelt), "masked")
    with pytest.raises(TemplateError, match=pointed):
        found(a_task(a=misspelt, b=MASKED), "masked", template="a")
    with pytest.raises(TemplateError, match="no template has a masked form"):
        found(a_task(a=misspelt, b=CAUSAL), "masked")


def test_the_answer_of_a_text_form_is_jinja():
    with pytest.raises(
        TemplateError, match=r"`answer` is ' \{word\}', but a text form calls the answer \{\{ candidate \}\}"
    ):
        found(a_task(a=TEXT), "causal", answer=" {word}")


def test_a_value_is_read_from_two_words_and_so_from_no_text_form():
    table = {"name": "toy", "kind": "regression", "sentences": ["text"], "labels": LABELS, "metrics": ["pearson"]}
    task = Task.model_validate(
        table | {"range": {"low": 0, "high": 1, "threshold": 0.5}, "templates": {"a": CAUSAL | TEXT}}
    )
    assert found(task, "causal") == ("a", "causal")
    with pytest.raises(
        TemplateError, match="a seq2seq model reads text forms only, which a regression task does not have"
    ):
        found(task, "seq2seq")
