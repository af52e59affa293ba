"""`check_task` finds what is wrong with a task's prompts, all of it, each with its place."""

from __future__ import annotations

import pytest

from shoestring.prompts import check_task
from shoestring.prompts.check import limit_notes
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import Golden, Label, Limits, Task, Template

GOLDEN = Golden(sentences=("a b",), masked="<cls>a b It was<mask>.<sep>", causal="<bos>a b It was")
GOOD = Task(
    name="toy",
    sentences=("text",),
    labels=(Label(name="0", word="film"), Label(name="1", word="answer")),
    templates={"default": Template(masked="*cls**sent_0*_It_was*mask*.*sep+*", causal="*bos**sent_0*_It_was")},
    golden=(GOLDEN,),
)


def changed(**update: object) -> Task:
    return GOOD.model_copy(update=update)


def test_a_good_task_has_no_problem(toy_bpe):
    assert check_task(GOOD) == []
    assert check_task(GOOD, toy_bpe, "masked") == []
    assert check_task(GOOD, toy_bpe, "causal") == []
    assert check_task(GOOD, toy_bpe, "head") == []
    assert check_task(GOOD, toy_bpe) == []


@pytest.mark.parametrize("name", task_names())
def test_every_catalogue_task_is_good_for_the_real_tokenizers(roberta, bert, llama, name):
    task = load_task(name)
    assert task.golden
    masked = any(template.masked is not None for template in task.templates.values())
    texts = any(template.text is not None for template in task.templates.values())
    assert check_task(task) == []
    assert check_task(task, llama, "causal") == []
    for tokenizer in (roberta, bert):
        assert (check_task(task, tokenizer, "masked") == []) == masked
    assert (check_task(task, roberta, "seq2seq") == []) == texts


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (
            changed(templates={"x": Template(masked="*cls**snt_0**mask*")}, golden=()),
            "task toy, template 'x' (masked): there is no token `*snt_0*`",
        ),
        (
            changed(templates={"x": Template(masked="*sent_0*_It_was_*mask*")}, golden=()),
            "task toy, template 'x' (masked): the text ' It was ' ends in a space before a token",
        ),
        (
            changed(templates={"x": Template(masked="Well*mask*")}, golden=()),
            "task toy, template 'x' (masked): sentence 0 (text) is never shown to the model",
        ),
        (
            changed(templates={"x": Template(causal="*sent_0*_So", answer=" {word} ")}, golden=()),
            "task toy, template 'x': `answer` ' {word} ' ends in a space",
        ),
        (
            changed(templates={"x": Template(masked="*sent_0**mask*", calibration="*sent_0**msk*")}, golden=()),
            "task toy, template 'x' (masked), calibration",
        ),
        (
            changed(templates={"x": Template(masked="*sent_0**mask*", label_words={"0": "answer"})}, golden=()),
            "task toy, label '1': its word 'answer' is the same label word",
        ),
        (
            changed(golden=(GOLDEN, Golden(sentences=("a b",), masked="a b"))),
            "task toy, golden 2: the masked prompt is '<cls>a b It was<mask>.<sep>', but the file says 'a b'",
        ),
        (changed(golden=(Golden(sentences=("a", "b"), masked="x"),)), "task toy, golden 1: has 2 sentences"),
        (changed(golden=(Golden(sentences=("a",)),)), "task toy, golden 1: has neither a `masked` nor a `causal`"),
        (
            changed(golden=(Golden(sentences=("a",), masked="a", template="defalt"),)),
            "task toy, golden 1: task toy: unknown template 'defalt'",
        ),
        (
            changed(
                templates={"x": Template(causal="*sent_0*")},
                golden=(Golden(sentences=("a ",), masked="x", causal="a "),),
            ),
            "task toy, golden 1: has a masked rendering, but its template has no masked form",
        ),
        (
            changed(templates={"x": Template(causal="*sent_0*")}, golden=(Golden(sentences=("a ",), causal="a "),)),
            "task toy, golden 1: the causal prompt 'a ' ends in a space before the answer",
        ),
    ],
)
def test_a_problem_of_the_file_alone_is_named(task, problem):
    found = check_task(task)
    assert any(text.startswith(problem) for text in found), found


@pytest.mark.parametrize(
    ("task", "kind", "problem"),
    [
        (
            changed(labels=(Label(name="0", word="unheard"), Label(name="1", word="film"))),
            "masked",
            "task toy, label '0': 'unheard' is ",
        ),
        (
            changed(templates={"default": Template(masked="*sent_0**mask*")}, golden=()),
            "causal",
            "task toy: no template has a causal form",
        ),
        (
            changed(limits=Limits(max_tokens=5)),
            "masked",
            "task toy, template 'default' (masked): the template alone has ",
        ),
        (
            changed(limits=Limits(max_tokens=20, first_sentence_tokens=19)),
            "masked",
            "task toy, template 'default' (masked): sentences as long as their limits put the mask at token ",
        ),
        (
            changed(limits=Limits(max_tokens=20, first_sentence_tokens=19)),
            "causal",
            "task toy, template 'default' (causal): sentences as long as their limits put the end of the prompt at",
        ),
    ],
)
def test_a_problem_with_a_tokenizer_is_named(toy_bpe, task, kind, problem):
    found = check_task(task, toy_bpe, kind)
    assert any(text.startswith(problem) for text in found), found


def test_a_tokenizer_without_a_mask_is_named_with_the_template(toy_gpt2):
    (problem,) = check_task(GOOD, toy_gpt2, "masked")
    assert problem.startswith("task toy, template 'default' (masked): the tokenizer has no mask token")


def test_a_limit_beyond_the_model_is_noted_but_no_problem(roberta):
    long = changed(limits=Limits(max_tokens=600))
    assert check_task(long, roberta, "masked") == []
    (note,) = limit_notes(long, roberta, "masked")
    assert note == ("task toy (masked): limits.max_tokens is 600, but the model reads 512; that is the limit then")
    (note,) = limit_notes(long, roberta, "causal")
    assert "the model reads 511 before the answer" in note
    assert limit_notes(GOOD, roberta) == []
    assert limit_notes(long, roberta, "head") == []


def test_a_template_longer_than_the_model_reads_is_a_problem(toy_bpe, monkeypatch):
    monkeypatch.setattr(toy_bpe, "model_max_length", 4)
    (problem,) = check_task(GOOD, toy_bpe, "masked")
    assert "(masked): the template alone has " in problem
    assert problem.endswith("the model reads 4")


def test_a_calibration_prompt_for_one_form_of_its_template_is_no_problem_of_the_other():
    both = Template(masked="*sent_0**mask*", causal="*sent_0*_So", calibration="_So*mask*")
    assert check_task(changed(templates={"x": both}, golden=())) == []


def test_all_problems_are_reported_at_once():
    templates = {"x": Template(masked="*snt_0**mask*"), "y": Template(causal="*sent_0**mask*")}
    assert len(check_task(changed(templates=templates, golden=()))) == 2
