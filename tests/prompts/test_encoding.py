"""Examples become the token ids the published code gives them, and nothing the model must read is ever cut."""

from __future__ import annotations

import re

import pytest

from shoestring.data.example import Example
from shoestring.errors import DataError, ModelError, PromptTooLongError, TemplateError, UnknownNameError
from shoestring.prompts import PromptEncoder, PromptSettings
from shoestring.prompts.codec import Codec
from shoestring.prompts.parts import PieceEncoder
from shoestring.prompts.rendering import render_text
from shoestring.prompts.template import Shape, parse
from shoestring.tasks.spec import Label, Limits, Range, Task, Template

T1 = "*cls**sent_0*_It_was*mask*.*sep+*"
T3 = "*cls**sent_0**mask*,*+sentl_1**sep+*"
T4 = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
T5 = "*cls**mask*:*+sent_0**sep+*"


def single(masked: str | None = T1, causal: str | None = "*bos**sent_0*_It_was", **limits: int) -> Task:
    return Task(
        name="toy",
        sentences=("text",),
        labels=(Label(name="0", word="terrible"), Label(name="1", word="great")),
        templates={"default": Template(masked=masked, causal=causal)},
        limits=Limits.model_validate(limits),
    )


def pair(masked: str, causal: str | None = None, **limits: int) -> Task:
    return Task(
        name="toy pair",
        sentences=("first", "second"),
        labels=(Label(name="no", word="No"), Label(name="yes", word="Yes")),
        templates={"default": Template(masked=masked, causal=causal)},
        limits=Limits.model_validate(limits),
    )


def one(text: str, label: str | float = "1") -> Example:
    return Example("train:0", (text,), label)


# The worked examples of research/prompts.md 2.6.


@pytest.mark.parametrize(
    ("task", "sentences", "text", "ids", "position"),
    [
        (
            single(T1),
            ("a fine film .",),
            "<cls>a fine film . It was<mask>.<sep>",
            (0, 102, 2051, 822, 479, 85, 21, 50264, 4, 2),
            7,
        ),
        (
            pair(T4),
            ("He ran.", "He moved."),
            "<cls>He ran?<mask>, he moved.<sep>",
            (0, 894, 2075, 116, 50264, 6, 37, 1410, 4, 2),
            4,
        ),
        (single(T5), ("What is it ?",), "<cls><mask>: What is it ?<sep>", (0, 50264, 35, 653, 16, 24, 17487, 2), 1),
        (pair(T3), ("A b.", "C d."), "<cls>A b.<mask>, c d.<sep>", (0, 250, 741, 4, 50264, 6, 740, 385, 4, 2), 4),
    ],
)
def test_worked_examples_have_the_published_text_and_roberta_ids(roberta, task, sentences, text, ids, position):
    encoder = PromptEncoder(task, roberta, "masked")
    example = Example("train:0", sentences, task.label_names[1])
    prompt = encoder.encode(example)
    assert encoder.text(example) == text
    assert prompt.ids == ids
    assert prompt.position == position
    assert prompt.segment_ids == (0,) * len(ids)
    assert (prompt.label, prompt.truncated, prompt.uid) == (1, 0, "train:0")


def test_text_is_the_same_with_a_toy_tokenizer(toy_bpe):
    assert PromptEncoder(pair(T4), toy_bpe, "masked").text(Example("a", ("He ran.", "He moved."), "no")) == (
        "<cls>He ran?<mask>, he moved.<sep>"
    )


def test_segments_rise_after_sep_plus_and_the_separator_keeps_its_own(toy_bpe):
    task = pair("*cls**sent_0**mask**sep+**sent_1**sep*")
    prompt = PromptEncoder(task, toy_bpe, "masked").encode(Example("a", ("x", "yz"), "no"))
    assert prompt.ids[:4] == (0, *toy_bpe.encode("x", add_special_tokens=False), 4, 2)
    assert prompt.segment_ids == (0,) * 4 + (1,) * (len(prompt.ids) - 4)


def test_a_one_character_text_is_looked_up_and_one_the_vocabulary_lacks_is_encoded(toy_wordpiece):
    task = single("*cls**sent_0*.*mask*A*sep*")
    ids = PromptEncoder(task, toy_wordpiece, "masked", PromptSettings()).encode(one("film")).ids
    look_up = toy_wordpiece.convert_tokens_to_ids
    assert ids == tuple(look_up(token) for token in ("[CLS]", "film", ".", "[MASK]", "a", "[SEP]"))


def test_characters_beyond_ascii_are_encoded_not_looked_up_as_raw_bytes(toy_bpe):
    ids = PromptEncoder(single("*sent_0*é*mask*"), toy_bpe, "masked").encode(one("a")).ids
    assert toy_bpe.decode(ids[1:-1]) == "é"


def test_a_mask_token_inside_a_sentence_does_not_move_the_position(toy_bpe):
    prompt = PromptEncoder(single(), toy_bpe, "masked").encode(one("a <mask> film"))
    assert prompt.position is not None
    assert prompt.ids.index(4) < prompt.position
    assert prompt.ids[prompt.position] == 4


# Limits.


def test_sentence_limits_cut_only_their_sentences_and_are_counted(toy_bpe):
    task = pair(T3, first_sentence_tokens=3, other_sentence_tokens=2)
    prompt = PromptEncoder(task, toy_bpe, "masked").encode(Example("a", ("qqqqq", "zzzzzz"), "no"))
    assert len(prompt.ids) == 1 + 3 + 1 + 1 + 2 + 1
    assert prompt.truncated == 2 + 5


def test_too_long_an_input_loses_its_tail_as_published(toy_bpe):
    task = single(T5, max_tokens=6)
    whole = PromptEncoder(single(T5), toy_bpe, "masked").encode(one("qqqqqqqq"))
    prompt = PromptEncoder(task, toy_bpe, "masked").encode(one("qqqqqqqq"))
    assert prompt.ids == whole.ids[:6]
    assert prompt.segment_ids == whole.segment_ids[:6]
    assert prompt.truncated == len(whole.ids) - 6


def test_cutting_off_the_mask_is_an_error_that_names_example_length_limit_and_remedy(toy_bpe):
    encoder = PromptEncoder(single(max_tokens=8), toy_bpe, "masked")
    whole = PromptEncoder(single(), toy_bpe, "masked").encode(one("qqqqqqqq"))
    message = (
        rf"task toy, example train:0: the prompt has {len(whole.ids)} tokens .* the limit is 8 \(max_tokens\), and "
        r"cutting its tail would cut off the mask; limit .*first_sentence_tokens.*prompt\.truncate=sentence"
    )
    with pytest.raises(PromptTooLongError, match=message):
        encoder.encode(one("qqqqqqqq"))


def test_the_mask_may_be_the_last_token_that_fits(toy_bpe):
    whole = PromptEncoder(single(), toy_bpe, "masked").encode(one("qqqq"))
    assert whole.position is not None
    prompt = PromptEncoder(single(max_tokens=whole.position + 1), toy_bpe, "masked").encode(one("qqqq"))
    assert prompt.position == whole.position == len(prompt.ids) - 1


def test_truncate_sentence_shortens_the_longest_sentence_and_keeps_the_template(toy_bpe):
    task = pair(T3, max_tokens=10)
    settings = PromptSettings(truncate="sentence")
    prompt = PromptEncoder(task, toy_bpe, "masked", settings).encode(Example("a", ("q" * 9, "z" * 4), "no"))
    q, z, space = (toy_bpe.encode(char, add_special_tokens=False)[0] for char in "qz ")
    comma = toy_bpe.convert_tokens_to_ids(",")
    assert prompt.ids == (0, q, q, q, 4, comma, space, z, z, 2)
    assert prompt.truncated == 6 + 2


def test_truncate_sentence_refuses_where_the_template_leaves_no_room(toy_bpe):
    settings = PromptSettings(truncate="sentence", max_tokens=5)
    with pytest.raises(
        PromptTooLongError, match=r"its template leaves no room for the sentences; .* raise prompt.max_tokens"
    ):
        PromptEncoder(single(), toy_bpe, "masked", settings).encode(one("qqqq"))


def test_truncate_error_never_cuts(toy_bpe):
    settings = PromptSettings(truncate="error", max_tokens=6)
    with pytest.raises(PromptTooLongError, match=r"prompt\.truncate=error forbids cutting; .* let it be cut"):
        PromptEncoder(single(T5), toy_bpe, "masked", settings).encode(one("qqqq"))


def test_max_tokens_of_the_settings_beats_the_task_and_the_model_beats_both(toy_bpe):
    assert PromptEncoder(single(max_tokens=30), toy_bpe, "masked", PromptSettings(max_tokens=40)).limit == 40
    encoder = PromptEncoder(single(max_tokens=30), toy_bpe, "masked", PromptSettings(max_tokens=40), 9)
    assert encoder.limit == 9
    with pytest.raises(PromptTooLongError, match=r"limit is 9 \(what the model can read\).*choose a model that reads"):
        encoder.encode(one("q" * 20))


def test_the_tokenizers_own_maximum_counts(roberta):
    assert PromptEncoder(single(max_tokens=4000), roberta, "masked").limit == 512


# Causal models.


def test_a_causal_prompt_is_scored_at_its_last_token_and_its_answers_continue_it(toy_bpe):
    prompt = PromptEncoder(single(), toy_bpe, "causal").encode(one("a film"))
    body = [*toy_bpe.encode("a film", add_special_tokens=False), *toy_bpe.encode(" It was", add_special_tokens=False)]
    assert prompt.ids == (0, *body)
    assert prompt.position == len(prompt.ids) - 1
    assert prompt.options == tuple(
        tuple(toy_bpe.encode(f" {word}", add_special_tokens=False)) for word in ("terrible", "great")
    )


def test_a_causal_prompt_is_not_cut_before_the_end_of_its_template(toy_bpe):
    with pytest.raises(PromptTooLongError, match="cutting its tail would cut off the end of its template"):
        PromptEncoder(single(max_tokens=8), toy_bpe, "causal", PromptSettings(truncate="tail")).encode(one("q" * 20))


def test_a_long_causal_prompt_loses_the_end_of_its_sentence_unless_told_otherwise(toy_bpe):
    prompt = PromptEncoder(single(max_tokens=8), toy_bpe, "causal").encode(one("q" * 20))
    ending = toy_bpe.encode(" It was", add_special_tokens=False)
    assert len(prompt.ids) == 8
    assert list(prompt.ids[-len(ending) :]) == ending


def test_sentence_limits_make_a_long_causal_prompt_fit(toy_bpe):
    prompt = PromptEncoder(single(first_sentence_tokens=3, max_tokens=8), toy_bpe, "causal").encode(one("q" * 20))
    assert prompt.truncated == 17


def test_a_causal_template_that_ends_in_the_sentence_may_lose_its_tail(toy_bpe):
    prompt = PromptEncoder(single(None, "Is_it_so?_*sent_0*"), toy_bpe, "causal", PromptSettings(max_tokens=9)).encode(
        one("q" * 20)
    )
    assert len(prompt.ids) == 9
    assert prompt.position == 8


def test_room_is_kept_for_the_longest_answer(toy_bpe):
    encoder = PromptEncoder(single(), toy_bpe, "causal", model_max_tokens=20)
    assert encoder.limit == 20 - max(map(len, encoder.options))
    with pytest.raises(PromptTooLongError, match="leaves no room for a prompt in a model of 1"):
        PromptEncoder(single(), toy_bpe, "causal", model_max_tokens=1)


def test_a_begin_token_that_is_the_end_token_is_left_out_unless_the_tokenizer_puts_it_there(toy_gpt2, toy_bpe):
    text = toy_gpt2.encode("a It was", add_special_tokens=False)
    assert list(PromptEncoder(single(), toy_gpt2, "causal").encode(one("a")).ids) == text
    assert PromptEncoder(single(), toy_bpe, "causal").encode(one("a")).ids[0] == 0


def test_tokens_a_tokenizer_lacks_are_skipped_and_its_separator_is_the_end_token(toy_gpt2):
    settings = PromptSettings(template="*cls**sent_0**sep*_It_was")
    ids = PromptEncoder(single(), toy_gpt2, "causal", settings).encode(one("a")).ids
    assert ids == (
        *toy_gpt2.encode("a", add_special_tokens=False),
        toy_gpt2.eos_token_id,
        *toy_gpt2.encode(" It was", add_special_tokens=False),
    )


def test_a_mask_for_a_tokenizer_without_one_is_an_error(toy_gpt2):
    with pytest.raises(ModelError, match="the tokenizer has no mask token"):
        PromptEncoder(single(), toy_gpt2, "masked")


# Without prompts.


def test_a_head_reads_the_bare_sentences_with_one_separator_between(toy_bpe):
    prompt = PromptEncoder(pair(T3), toy_bpe, "head").encode(Example("a", ("x", "y"), "yes"))
    x, y = (toy_bpe.encode(char, add_special_tokens=False)[0] for char in "xy")
    assert prompt.ids == (0, x, 2, y, 2)
    assert prompt.segment_ids == (0, 0, 0, 1, 1)
    assert (prompt.position, prompt.options, prompt.label) == (None, (), 1)


def test_a_head_ignores_sentence_limits_and_loses_its_tail_as_published(toy_bpe):
    task = pair(T3, first_sentence_tokens=1, max_tokens=6)
    prompt = PromptEncoder(task, toy_bpe, "head").encode(Example("a", ("qqq", "zzz"), "yes"))
    q, z = (toy_bpe.encode(char, add_special_tokens=False)[0] for char in "qz")
    assert prompt.ids == (0, q, q, q, 2, z)
    assert prompt.truncated == 3


def test_a_head_on_a_causal_tokenizer_reads_lines_and_keeps_its_end_token(toy_gpt2):
    encoder = PromptEncoder(pair(T3), toy_gpt2, "head")
    prompt = encoder.encode(Example("a", ("q", "z"), "yes"))
    assert toy_gpt2.decode(prompt.ids) == "q\nz</s>"
    assert encoder.text(Example("a", ("q", "z"), "yes")) == "<bos>q\nz<eos>"
    short = PromptEncoder(pair(T3), toy_gpt2, "head", PromptSettings(max_tokens=5)).encode(
        Example("a", ("qqqq", "zzzz"), "yes")
    )
    assert toy_gpt2.decode(short.ids) == "qqqq</s>"
    assert short.truncated == 5


def test_prompt_settings_on_a_head_are_refused_instead_of_ignored(toy_bpe):
    with pytest.raises(TemplateError, match="so template and label_words would have no effect"):
        PromptEncoder(single(), toy_bpe, "head", PromptSettings(template="default", label_words={"0": "bad"}))


# Labels, settings, demonstrations.


def test_a_regression_label_is_its_value(toy_bpe):
    task = pair(T3).model_copy(
        update={"kind": "regression", "range": Range(low=0, high=5, threshold=2.5), "metrics": ("pearson",)}
    )
    encoder = PromptEncoder(task, toy_bpe, "head")
    assert encoder.encode(Example("a", ("x", "y"), 3.5)).label == 3.5
    assert encoder.encode(Example("a", ("x", "y"), "3.5")).label == 3.5
    for wrong in ("much", "nan"):
        with pytest.raises(DataError, match=f"example a: its value '{wrong}' is not a number"):
            encoder.encode(Example("a", ("x", "y"), wrong))


def test_an_unknown_label_is_refused(toy_bpe):
    with pytest.raises(DataError, match=r"example train:0: has the unknown label '2'.*Allowed: 0, 1"):
        PromptEncoder(single(), toy_bpe, "head").encode(one("a", "2"))


def test_a_wrong_number_of_sentences_is_refused(toy_bpe):
    with pytest.raises(DataError, match="has 1 texts; the task has 2: first, second"):
        PromptEncoder(pair(T3), toy_bpe, "masked").encode(one("a"))


def test_an_input_without_any_token_is_refused(toy_gpt2):
    with pytest.raises(DataError, match="example train:0: has no token at all"):
        PromptEncoder(single(None, "*sent_0*"), toy_gpt2, "causal").encode(one(""))


def test_a_template_is_chosen_by_name_or_given_as_text(toy_bpe):
    task = single().model_copy(
        update={"templates": {"default": Template(masked=T1), "question": Template(masked=T5)}},
    )
    example = one("a")
    assert PromptEncoder(task, toy_bpe, "masked").text(example) == "<cls>a It was<mask>.<sep>"
    chosen = PromptSettings(template="question")
    assert PromptEncoder(task, toy_bpe, "masked", chosen).text(example) == "<cls><mask>: a<sep>"
    inline = PromptSettings(template="*sent_0*_So*mask*")
    assert PromptEncoder(task, toy_bpe, "masked", inline).text(example) == "a So<mask>"
    with pytest.raises(UnknownNameError, match="task toy: unknown template 'qestion'; did you mean 'question'"):
        PromptEncoder(task, toy_bpe, "masked", PromptSettings(template="qestion"))
    with pytest.raises(TemplateError, match=r"template 'given in the settings' \(masked\): there is no token"):
        PromptEncoder(task, toy_bpe, "masked", PromptSettings(template="*sentence_0**mask*"))
    with pytest.raises(TemplateError, match="it ends in a space"):
        PromptEncoder(task, toy_bpe, "causal", PromptSettings(template="*sent_0*_So_"))


def test_a_template_without_the_form_asked_for_is_refused_with_those_that_have_it(toy_bpe):
    both = {"default": Template(masked=T1), "other": Template(causal="*sent_0*_It_was")}
    chosen = PromptSettings(template="default")
    with pytest.raises(TemplateError, match="template 'default' has no causal form; choose one that has: other"):
        PromptEncoder(single().model_copy(update={"templates": both}), toy_bpe, "causal", chosen)
    with pytest.raises(TemplateError, match=re.escape("has no causal form; write one that has no `*mask*`")):
        PromptEncoder(single(causal=None), toy_bpe, "causal")


def test_the_answer_of_the_settings_continues_a_causal_prompt_and_means_nothing_to_a_masked_one(toy_bpe):
    settings = PromptSettings(answer="{word}!")
    encoder = PromptEncoder(single(), toy_bpe, "causal", settings)
    assert toy_bpe.decode(encoder.options[0]) == "terrible!"
    with pytest.raises(TemplateError, match="`answer` continues causal prompts"):
        PromptEncoder(single(), toy_bpe, "masked", settings)


def test_demonstrations_are_rendered_from_further_sentences_and_labels(toy_bpe):
    template = "*cls**sent_0*_It_was*mask*.*sep+**sent_1*_It_was*label_0*.*sep+**+sent_2*_It_was*labelx_1*.*sep+*"
    pieces = parse(template, Shape("masked", sentences=1, labels=2, demonstrations=2))
    encoder = PieceEncoder(
        pieces, Codec(toy_bpe), Limits(first_sentence_tokens=4, other_sentence_tokens=2), ((7,), (8,))
    )
    words = (" bad", " good")
    assert render_text(pieces, ["a", "b", "c"], words, [0, 1]) == (
        "<cls>a It was<mask>.<sep>b It was bad.<sep> c It was good.<sep>"
    )
    parts = encoder.parts(["qqqqqq", "zzzz", "zzzz"], demonstration_labels=[0, 1])
    assert [len(part.ids) for part in parts if part.cut] == [4, 2, 2]
    ids = [token for part in parts for token in part.ids]
    segments = [part.segment for part in parts for _ in part.ids]
    assert 7 in ids
    assert 8 in ids
    assert segments[0] == 0
    assert segments[-1] == 2


def test_encode_all_is_encode_in_order(toy_bpe):
    encoder = PromptEncoder(single(), toy_bpe, "masked")
    examples = [one("a"), one("a film", "0")]
    assert encoder.encode_all(examples) == [encoder.encode(example) for example in examples]
