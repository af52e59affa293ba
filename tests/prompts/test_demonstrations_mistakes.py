"""What cannot be demonstrated is refused: too few examples, kinds that do not suit, settings without effect."""

from __future__ import annotations

import re

import pytest

import tiny
from prompts.demonstrated import LONGEST, drawing, examples_of, settings_of
from shoestring.data.example import Example
from shoestring.errors import DataError, ModelError, TemplateError
from shoestring.prompts import Kind, PromptEncoder, PromptSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.pool import Pool
from shoestring.tasks.load import load_task

PAIR = (Example("train:0", ("a",), "0"), Example("train:1", ("b",), "1"))
QUERY = Example("test:0", ("q",), "1")


def refused(tokenizer, model: Kind, task: str = "SST-2", examples=PAIR, **demonstrations: object) -> None:
    chosen = load_task(task)
    build_encoder(chosen, tokenizer, model, settings_of(chosen, **demonstrations), LONGEST, Pool(tuple(examples)))


@pytest.mark.parametrize("kind", ["per-label", "gpt3"])
def test_nothing_to_draw_from(toy_bpe, kind):
    with pytest.raises(DataError, match=r"prompt\.demonstrations: task SST-2 has no training examples to draw them"):
        refused(toy_bpe, "masked", examples=(), kind=kind)


def test_a_label_without_an_example(toy_bpe):
    wanted = "of the training examples of task SST-2, there is none of label '1'; raise data.k"
    with pytest.raises(DataError, match=re.escape(wanted)):
        refused(toy_bpe, "masked", examples=PAIR[:1], kind="per-label")


def test_a_training_example_that_is_the_only_one_of_its_label(toy_bpe):
    encoder = drawing(toy_bpe, load_task("SST-2"), Pool(PAIR), kind="per-label")
    encoder.encode(QUERY)
    wanted = "for example train:1, which is not shown to itself, there is none of label '1'; raise data.k"
    with pytest.raises(DataError, match=wanted):
        encoder.encode(PAIR[1])


def test_fewer_examples_than_demonstrations(toy_bpe):
    wanted = r"of task SST-2, 32 are asked for and there are 2; lower prompt\.demonstrations\.count, or raise data\.k"
    with pytest.raises(DataError, match=wanted):
        refused(toy_bpe, "masked", kind="gpt3")
    encoder = drawing(toy_bpe, load_task("SST-2"), Pool(PAIR), kind="gpt3", count=2)
    encoder.encode(QUERY)
    with pytest.raises(DataError, match="for example train:0, which is not shown to itself, 2 are asked for and there"):
        encoder.encode(PAIR[0])


def test_an_example_with_a_label_or_a_number_of_texts_that_the_task_does_not_have(toy_bpe):
    with pytest.raises(DataError, match=r"task SST-2, example train:0: has the unknown label '2'. Allowed: 0, 1"):
        refused(toy_bpe, "masked", examples=[Example("train:0", ("a",), "2")], kind="gpt3", count=1)
    two = [Example("train:0", ("a", "b"), "1")]
    encoder = drawing(toy_bpe, load_task("SST-2"), Pool(tuple(two)), kind="gpt3", count=1)
    with pytest.raises(DataError, match="task SST-2, example train:0: has 2 texts; the task has 1: sentence"):
        encoder.encode(QUERY)
    with pytest.raises(DataError, match="task STS-B, example train:0: its value 'high' is not a number"):
        refused(toy_bpe, "masked", "STS-B", [Example("train:0", ("a", "b"), "high")], kind="gpt3", count=1)


@pytest.mark.parametrize(
    ("model", "task", "demonstrations", "message"),
    [
        (
            "masked",
            "SST-2",
            {"kind": "per-label", "as_published": True},
            "as_published is about regression, and task SST",
        ),
        (
            "masked",
            "SST-2",
            {"kind": "gpt3", "as_published": True, "place": "tail"},
            "as_published is about masked models",
        ),
        ("masked", "SST-2", {"kind": "gpt3", "as_published": True, "separator": "\n"}, "and without a separator"),
        ("causal", "SST-2", {"kind": "gpt3", "as_published": True}, "as_published is about masked models with place="),
        (
            "causal",
            "SST-2",
            {"kind": "gpt3", "place": "tail"},
            'place="tail" is for masked models: a causal prompt ends',
        ),
        (
            "masked",
            "SST-2",
            {"kind": "in-context"},
            "of kind 'in-context' are for templates of text form, which a masked",
        ),
        ("causal", "SST-2", {"kind": "in-context"}, "of kind 'in-context' are for templates with a text form"),
    ],
)
def test_demonstrations_that_do_not_suit_task_or_model(toy_bpe, model, task, demonstrations, message):
    with pytest.raises(TemplateError, match=f"task {task}: prompt.demonstrations .*{re.escape(message)}"):
        refused(toy_bpe, model, task, **demonstrations)


def test_a_head_takes_none(toy_bpe):
    with pytest.raises(
        TemplateError, match="a classification head reads the bare sentences, so demonstrations would have"
    ):
        build_encoder(
            tiny.task_of(), toy_bpe, "head", PromptSettings.model_validate({"demonstrations": {"kind": "gpt3"}})
        )


def test_filtering_needs_embeddings_and_leaves_enough(toy_bpe):
    rule = {"model": "some/encoder"}
    with pytest.raises(
        ModelError, match=r"prompt\.demonstrations\.filter compares texts by the embeddings of 'some/enc"
    ):
        refused(toy_bpe, "masked", kind="per-label", filter=rule)
    flat = Pool(PAIR, embed=lambda texts: [[1.0] for _ in texts])
    encoder = drawing(toy_bpe, load_task("SST-2"), flat, kind="per-label", filter=rule)
    wanted = r"for example test:0 after filtering with rate 0\.5, there is none of label '0' and '1'; raise data\.k"
    with pytest.raises(DataError, match=wanted):
        encoder.encode(QUERY)


def test_settings_out_of_range_and_unknown_ones():
    for table, message in (
        ({"kind": "per-label", "samples": 0}, "greater than 0"),
        ({"kind": "gpt3", "count": 0}, "greater than 0"),
        ({"kind": "gpt3", "filter": {"model": "x", "rate": 1.5}}, "less than or equal to 1"),
        ({"kind": "gpt-3"}, "gpt3"),
    ):
        with pytest.raises(ValueError, match=message):
            PromptSettings.model_validate({"demonstrations": table})


def test_an_encoder_of_a_template_has_to_be_given_its_demonstrations(toy_bpe):
    task = load_task("SST-2")
    encoder = PromptEncoder(task, toy_bpe, "masked", settings_of(task, kind="per-label"))
    with pytest.raises(
        DataError, match=r"test:0: comes with 0 demonstrations, its template is made for 2; shoestring\.pro"
    ):
        encoder.encode(QUERY)
    assert encoder.encode(QUERY, PAIR).ids
    with pytest.raises(TemplateError, match=r"prompt\.templates asks for several encoders, one a template"):
        PromptEncoder(task, toy_bpe, "masked", PromptSettings(templates=("lm-bff",)))


def test_examples_of_the_tests_have_every_label():
    task = load_task("SST-2")
    assert {example.label for example in examples_of(task, 40)} == set(task.label_names)
