"""Text forms are Jinja in a sandbox, and every mistake in them is named with its place."""

from __future__ import annotations

import pytest

from prompts.texts import a_task
from shoestring.data.example import Example
from shoestring.errors import DataError, TemplateError
from shoestring.prompts.text_template import TextTemplate
from shoestring.tasks.spec import TextForm

EXAMPLE = Example("train:3", (" He said so. \n",), "0")


def rendered(prompt: str, answer: str = " {{ candidate }}") -> str:
    template = TextTemplate(a_task(), "only", TextForm(prompt=prompt, answer=answer))
    return template.prompt(EXAMPLE) + template.answer(EXAMPLE, "I think")


@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        ("{{ text }}", "{{ candidate }}", " He said so. \nI think"),
        ("{{ text.strip() }}?\n", "{{ candidate }}", "He said so.?\nI think"),
        ("{{ text.strip()[:-1] | lower }}", " {{ candidate.split(' ')[-1] }}", "he said so think"),
        ("{% if 'x' in text %}x{% else %}y{% endif %}", '<{{ candidate }}> & "', 'y<I think> & "'),
        ("{% set words = text.split() %}{{ words | length }}", " {{ candidate.count('i') + text.count('s') }}", "3 3"),
    ],
)
def test_texts_and_their_methods_make_prompts(prompt, answer, text):
    assert rendered(prompt, answer) == text


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            "{{ txet }}",
            r"template 'only' \(text\.prompt\): 'txet' is no text of the task; did you mean 'text'\? Allowed: text",
        ),
        ("{{ candidate }}", "'candidate' is the answer, which does not stand here. Allowed: text"),
        ("a\n{{ text }", r"\(text\.prompt\), line 2: not Jinja: unexpected '}'\n    {{ text }"),
        ("{{ text | random }}", "line 1: not Jinja: No filter named 'random'"),
        ("{{ lipsum() }}", "'lipsum' is no text of the task"),
    ],
)
def test_a_template_that_is_none_is_refused_before_any_example(prompt, message):
    with pytest.raises(TemplateError, match=message):
        rendered(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("{{ text.lenght }}", "'str object' has no attribute 'lenght'"),
        ("{{ text.__class__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ text[99].x }}", "the template fails: "),
        ("{% include 'file' %}", "no loader for this environment"),
        ("{% for n in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ text.strip }}", r"'strip' is a method, and no text; write strip\(\)"),
    ],
)
def test_a_template_that_fails_names_the_example(prompt, message):
    with pytest.raises(
        TemplateError, match=rf"task toy, template 'only' \(text\.prompt\), example train:3: .*{message}"
    ):
        rendered(prompt)


def test_an_answer_sees_the_candidate_and_every_part_is_checked():
    with pytest.raises(
        TemplateError, match=r"\(text\.answer\): 'candidat' is no text of the task; did you mean 'candidate'"
    ):
        rendered("{{ text }}", "{{ candidat }}")
    with pytest.raises(TemplateError, match=r"\(text\.answer\): ' yes' is the same for every answer; it needs {{ cand"):
        rendered("{{ text }}", " yes")
    for part in ("calibration", "calibration_answer", "demonstration"):
        form = TextForm.model_validate({"prompt": "{{ text }}", part: "{{ nothing }}"})
        with pytest.raises(TemplateError, match=rf"\(text\.{part}\): 'nothing' is no text"):
            TextTemplate(a_task(), "only", form)


def test_a_text_must_not_be_called_like_the_answer():
    with pytest.raises(TemplateError, match="task toy: a text is called 'candidate', which is what answers are called"):
        TextTemplate(a_task(sentences=["candidate"]), "only", TextForm(prompt="x"))


def test_the_number_of_texts_is_checked():
    template = TextTemplate(a_task(), "only", TextForm(prompt="{{ text }}"))
    with pytest.raises(DataError, match=r"task toy, example a: has 2 texts; the task has 1 \(text\)"):
        template.prompt(Example("a", ("x", "y"), "0"))


def test_texts_that_nothing_shows_are_known():
    task = a_task(sentences=["text", "more", "rest"])
    form = TextForm(prompt="{{ text }}", answer="{{ candidate }}{{ rest }}", demonstration="{{ more }}")
    assert TextTemplate(task, "only", form).unseen() == ["more"]
