"""Several templates, and what is asked about nothing: the same inputs as one template, one prompt at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tiny
from prompts.demonstrated import LONGEST, SEED, WORDS, examples_of, known_words
from shoestring.data.example import Example
from shoestring.errors import TemplateError, UnknownNameError
from shoestring.prompts import Kind, PromptEncoder, PromptSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt, Encoder, Redraws
from shoestring.prompts.ensemble import Ensemble
from shoestring.prompts.pool import Pool
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

T1, T2, T5 = "*cls**sent_0*_It_was*mask*.*sep+*", "*cls**sent_0*_So*mask*!*sep+*", "*cls**mask*:*+sent_0**sep+*"
QUERY = Example("test:0", ("a fine film .",), "1")
PER_LABEL = {"kind": "per-label", "samples": 3}


def encoder_of(tokenizer, kind: Kind = "masked", pool: Pool | None = None, task: Task | None = None, **table: object):
    task = task or load_task("SST-2")
    settings = PromptSettings.model_validate({"label_words": known_words(task)} | table)
    return build_encoder(task, tokenizer, kind, settings, LONGEST, pool)


def ways(prompt: EncodedPrompt) -> list[EncodedPrompt]:
    return [replace(prompt, variants=(), truncated=0), *(replace(way, truncated=0) for way in prompt.variants)]


def alone(encoder: Encoder, example: Example = QUERY) -> EncodedPrompt:
    return replace(encoder.encode(example), truncated=0)


def test_each_template_is_a_way_of_asking(toy_bpe):
    found = encoder_of(toy_bpe, templates=[T1, T2, T5]).encode(QUERY)
    assert ways(found) == [alone(encoder_of(toy_bpe, template=template)) for template in (T1, T2, T5)]
    named = encoder_of(toy_bpe, templates=["lm-bff", T5])
    assert named.text(QUERY) == "<cls>a fine film . It was<mask>.<sep>"
    assert named.encode_all([QUERY]) == [named.encode(QUERY)]


def test_templates_may_have_label_words_of_their_own(toy_bpe):
    task = tiny.task_of(
        templates={
            "good": {"masked": T1},
            "bad": {"masked": T2, "label_words": {"0": "bad", "1": "good"}},
        }
    )
    settings = PromptSettings(templates=("good", "bad"))
    prompt = build_encoder(task, toy_bpe, "masked", settings, LONGEST).encode(QUERY)
    words = [[toy_bpe.decode(option).strip() for option in way.options] for way in ways(prompt)]
    assert words == [["terrible", "great"], ["bad", "good"]]


def test_draw_j_has_template_j_modulo_n_and_demonstrations_of_its_own(toy_bpe):
    pool = Pool(tuple(examples_of(load_task("SST-2"), 200, longest=5)), SEED)
    prompt = encoder_of(toy_bpe, pool=pool, templates=[T1, T2], demonstrations=PER_LABEL).encode(QUERY)
    shown = [toy_bpe.decode(way.ids) for way in ways(prompt)]
    assert len(shown) == 6
    assert [" So<mask>!" in text for text in shown] == [False, True] * 3
    # The first template is asked as it is without the second.
    first = encoder_of(toy_bpe, pool=pool, template=T1, demonstrations=PER_LABEL).encode(QUERY)
    assert ways(prompt)[::2] == ways(first)
    second = [text.replace(" So<mask>!", " It was<mask>.") for text in shown[1::2]]
    assert not set(second) & set(shown[::2])


def test_causal_models_are_asked_in_several_ways_as_well(toy_bpe):
    found = encoder_of(toy_bpe, "causal", templates=["*bos**sent_0*_It_was", "*bos**sent_0*_So"]).encode(QUERY)
    assert [toy_bpe.decode(way.ids) for way in ways(found)] == [
        "<s>a fine film . It was",
        "<s>a fine film . So",
    ]
    assert [way.position for way in ways(found)] == [len(way.ids) - 1 for way in ways(found)]


def test_a_template_that_is_wrong_or_two_ways_to_name_one_are_refused(toy_bpe):
    with pytest.raises(TemplateError, match=r"prompt\.template and prompt\.templates are both given; one is enough"):
        encoder_of(toy_bpe, template=T1, templates=[T2])
    with pytest.raises(UnknownNameError, match="unknown template 'lm-bf'; did you mean 'lm-bff'"):
        encoder_of(toy_bpe, templates=["lm-bff", "lm-bf"])
    with pytest.raises(TemplateError, match="it has no `\\*mask\\*`"):
        encoder_of(toy_bpe, templates=[T1, "*cls**sent_0*"])


# A draw for training.


def test_a_training_example_has_one_template_and_each_in_its_turn(toy_bpe):
    encoder = encoder_of(toy_bpe, templates=[T1, T2, T5])
    assert isinstance(encoder, Ensemble)
    prompt = encoder.encode(QUERY)
    drawn = [encoder.redraw(prompt, seed) for seed in range(300)]
    assert drawn == [encoder.redraw(prompt, seed) for seed in range(300)]
    for way in ways(prompt):
        # A third of 300, standard deviation 8.2.
        assert abs(sum(replace(one, truncated=0) == way for one in drawn) - 100) < 33


def test_an_example_that_is_not_in_the_pool_keeps_its_demonstrations_in_training(toy_bpe):
    pool = Pool(tuple(examples_of(load_task("SST-2"), 20)), SEED)
    encoder = encoder_of(toy_bpe, pool=pool, demonstrations=PER_LABEL)
    assert isinstance(encoder, Redraws)
    prompt = encoder.encode(QUERY)
    assert encoder.redraw(prompt, 5) == replace(prompt, variants=())


# What is asked about nothing.


def calibrated(form: str, calibration: str | None) -> Task:
    return tiny.task_of(
        templates={
            "first": {form: T1 if form == "masked" else "*bos**sent_0*_It_was"}
            | ({"calibration": calibration} if calibration else {})
        }
    )


@pytest.mark.parametrize(("form", "calibration"), [("masked", "*cls*_It_was*mask*.*sep+*"), ("causal", "*bos*_It_was")])
def test_the_calibration_prompt_is_a_template_that_is_given_nothing(toy_bpe, form: Kind, calibration):
    task = calibrated(form, calibration)
    settings = PromptSettings(calibration="surface-form")
    prompt = build_encoder(task, toy_bpe, form, settings, LONGEST).encode(QUERY)
    (nothing,) = prompt.calibrations
    other = PromptEncoder(task, toy_bpe, form, PromptSettings(template=calibration)).encode(QUERY)
    assert nothing == other
    plain = build_encoder(task, toy_bpe, form, PromptSettings(), LONGEST).encode(QUERY)
    assert replace(prompt, calibrations=()) == plain


@pytest.mark.parametrize("kind", ["masked", "causal"])
@pytest.mark.parametrize("with_demonstrations", [True, False])
def test_the_calibration_prompt_has_the_same_demonstrations(toy_bpe, kind: Kind, with_demonstrations):
    task = calibrated(kind, "*cls*_It_was*mask*.*sep+*" if kind == "masked" else "*bos*_It_was")
    pool = Pool(tuple(examples_of(task, 20, longest=5)), SEED)
    table = {"demonstrations": PER_LABEL, "max_tokens": 200}
    table |= {"calibration": "surface-form", "calibration_demonstrations": with_demonstrations}
    settings = PromptSettings.model_validate(table)
    encoder = build_encoder(task, toy_bpe, kind, settings, LONGEST, pool)
    for way in ways(encoder.encode(QUERY)):
        (nothing,) = way.calibrations
        text, empty = toy_bpe.decode(way.ids), toy_bpe.decode(nothing.ids)
        assert "a fine film ." in text
        if with_demonstrations:
            assert empty == text.replace("a fine film .", "", 1)
        else:
            assert empty in ("<s> It was<mask>.</s>", "<s> It was")


def test_contextual_calibration_asks_about_three_texts_without_content(toy_bpe):
    task = load_task("MNLI")
    pool = Pool(tuple(examples_of(task, 30, longest=3)), SEED)
    query = Example("test:0", ("A b.", "C d."), "neutral")
    table = {"demonstrations": PER_LABEL, "calibration": "contextual"}
    prompt = encoder_of(toy_bpe, task=task, pool=pool, **table).encode(query)
    for way in ways(prompt):
        text = toy_bpe.decode(way.ids)
        first, rest = text.split("</s>", 1)
        assert first == "<s>A b?<mask>, c d."
        found = [toy_bpe.decode(one.ids) for one in way.calibrations]
        assert found == [
            f"<s>N/?<mask>, n/A</s>{rest}",
            f"<s>?<mask>, </s>{rest}",
            f"<s>[MASK?<mask>, [MASK]</s>{rest}",
        ]
        assert {one.options for one in way.calibrations} == {way.options}
        for one in way.calibrations:
            assert one.position is not None
            assert toy_bpe.decode(one.ids[one.position]) == "<mask>"


def test_a_calibration_prompt_that_is_missing_or_wrong_is_named(toy_bpe):
    settings = PromptSettings(calibration="surface-form")
    wanted = r"template 'first' \(masked\) has no calibration prompt, .*write `calibration` beside `masked`"
    with pytest.raises(TemplateError, match=wanted):
        build_encoder(calibrated("masked", None), toy_bpe, "masked", settings, LONGEST)
    with pytest.raises(TemplateError, match=r"template 'first' \(masked\), calibration: it has no `\*mask\*`"):
        build_encoder(calibrated("masked", "*cls*_It_was"), toy_bpe, "masked", settings, LONGEST)
    with pytest.raises(
        TemplateError, match="a classification head reads the bare sentences, so calibration would have"
    ):
        build_encoder(tiny.task_of(), toy_bpe, "head", PromptSettings(calibration="contextual"), LONGEST)


def test_words_of_the_tests_are_one_token(toy_bpe):
    assert {len(toy_bpe.encode(f" {word}", add_special_tokens=False)) for word in WORDS} == {1}
