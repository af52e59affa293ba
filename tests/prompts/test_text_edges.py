"""Whole texts at the edges: tokenizers, kinds of models and tasks, mistakes."""

from __future__ import annotations

import logging

import pytest

from prompts.texts import PET, QUERY, a_task, encoder_of, examples, sequences
from shoestring.data.example import Example
from shoestring.errors import DataError, ModelError, PromptTooLongError, TemplateError
from shoestring.prompts.settings import PromptSettings
from shoestring.prompts.text import JOINED, TextEncoder

# Tokenizers


def test_where_the_tokenizer_joins_prompt_and_answer_the_published_rule_holds_and_it_is_said(roberta, caplog):
    task = a_task({"prompt": "{{ text }}wait", "answer": "{{ candidate }}"}, labels=[
        {"name": "0", "word": "ing for it"}, {"name": "1", "word": "s and sees"}])  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found = encoder_of(task, roberta).encode(Example("a", ("they ",), "0"))
    texts = ["they waiting for it", "they waits and sees"]
    prompt = roberta.encode("they wait")[:-1]
    whole = [roberta.encode(text)[:-1] for text in texts]
    assert sequences(found) == whole
    assert whole[0][: len(prompt)] != prompt  # " waiting" is one token.
    assert list(found.scored_lengths) == [len(ids) - len(prompt) for ids in whole]
    assert len(found.ids) == len(prompt) - 1
    assert JOINED in caplog.text


def test_an_answer_that_adds_no_token_is_refused(roberta, toy_bpe):
    joined = a_task({"prompt": "{{ text }}wait", "answer": "{{ candidate }}"}, labels=[
        {"name": "0", "word": "ing"}, {"name": "1", "word": "x"}])  # fmt: skip
    with pytest.raises(DataError, match="the answer 'ing' adds no token to the prompt"):
        encoder_of(joined, roberta).encode(Example("a", ("they ",), "0"))
    empty = a_task({"prompt": "{{ text }}", "answer": "{% if candidate == 'bad' %} {{ candidate }}{% endif %}"})
    for kind in ("causal", "seq2seq"):
        with pytest.raises(DataError, match=r"task toy, example test:0: the answer '' adds no token to the prompt in"):
            encoder_of(empty, toy_bpe, kind).encode(QUERY)


def test_two_answers_of_the_same_tokens_are_refused(toy_wordpiece, toy_bpe):
    task = a_task(labels=[{"name": "0", "word": "film"}, {"name": "1", "word": "Film"}])
    with pytest.raises(
        DataError, match=r"example test:0: its answers ' film' and ' Film' have the same tokens in the tok"
    ):
        encoder_of(task, toy_wordpiece).encode(QUERY)
    assert encoder_of(task, toy_bpe).encode(QUERY)
    spaced = a_task({"prompt": "{{ text }}", "answer": "{{ {'bad': ' so', 'good': '\\nso'}[candidate] }}"})
    assert encoder_of(spaced, toy_bpe).encode(QUERY)
    with pytest.raises(DataError, match=r"its answers ' so' and '\\nso' have the same tokens"):
        encoder_of(spaced, toy_bpe, "seq2seq").encode(QUERY)


def test_what_tokenizers_put_behind_a_text_does_not_stand_between_prompt_and_answer(toy_bpe, toy_wordpiece):
    for tokenizer in (toy_bpe, toy_wordpiece):
        whole = tokenizer.encode("a film It was good")
        found = encoder_of(a_task(), tokenizer).encode(QUERY)
        bare = tokenizer.encode("a film It was good", add_special_tokens=False)
        assert sequences(found)[1] == whole[: whole.index(bare[0])] + bare


def test_the_token_that_inputs_begin_with_can_be_chosen(toy_bpe, toy_gpt2):
    for tokenizer in (toy_bpe, toy_gpt2):
        plain = encoder_of(a_task(), tokenizer).encode(QUERY)
        found = encoder_of(a_task(), tokenizer, begin="<mask>").encode(QUERY)
        mask = tokenizer.convert_tokens_to_ids("<mask>")
        assert found.ids == (mask, *(plain.ids[1:] if tokenizer is toy_bpe else plain.ids))
    with pytest.raises(ModelError, match=r"prompt\.begin='<so>' is not in the vocabulary of the tokenizer"):
        encoder_of(a_task(), toy_bpe, begin="<so>")


def test_an_empty_prompt_begins_with_the_begin_token(toy_gpt2, toy_wordpiece):
    task = a_task({"prompt": "{{ text }}", "answer": " {{ candidate }}", "calibration": ""})
    found = encoder_of(task, toy_gpt2, calibration="surface-form").encode(QUERY)
    (without,) = found.calibrations
    assert without.ids == (toy_gpt2.bos_token_id,)
    bare = toy_gpt2.__class__(tokenizer_object=toy_gpt2.backend_tokenizer)
    with pytest.raises(
        ModelError, match=r"has no begin token, and the first token of an answer is predicted from what"
    ):
        encoder_of(task, bare, calibration="surface-form").encode(QUERY)


def test_a_tokenizer_without_an_end_token_cannot_end_answers(toy_gpt2):
    bare = toy_gpt2.__class__(tokenizer_object=toy_gpt2.backend_tokenizer)
    with pytest.raises(ModelError, match="has no end-of-text token, which answers are to end with"):
        encoder_of(a_task(PET), bare)


# Sequence to sequence


def test_the_encoder_reads_the_question_and_the_decoder_writes_candidates_that_end(toy_bpe, toy_gpt2):
    shown = {"kind": "in-context", "count": 2}
    encoder = encoder_of(a_task(), toy_bpe, "seq2seq", pool=examples(4), demonstrations=shown)
    found = encoder.encode(QUERY)
    assert list(found.ids) == toy_bpe.encode(encoder.text(QUERY))
    assert [list(option) for option in found.options] == [toy_bpe.encode("bad"), toy_bpe.encode("good")]
    assert (found.position, found.scored) == (None, ())
    # Where the tokenizer itself ends nothing, answers end all the same.
    bare = encoder_of(a_task(), toy_gpt2, "seq2seq").encode(QUERY)
    assert [list(option) for option in bare.options] == [
        [*toy_gpt2.encode(text), toy_gpt2.eos_token_id] for text in ("bad", "good")
    ]


def test_an_answer_longer_than_the_decoder_can_read_is_refused(toy_bpe):
    form = {"prompt": "{{ text }}", "answer": "{{ candidate }}"}
    task = a_task(form, kind="generation", metrics=["exact-match"], labels=[])
    example = Example("test:0", ("a film",), "good good bad", golds=("good good bad",))
    read = len(toy_bpe.encode("good good bad")) + 1  # Two tokens start an answer, the last token is not read.
    (target,) = TextEncoder(task, toy_bpe, "seq2seq", PromptSettings(), read).encode(example).options
    assert len(target) == read - 1
    with pytest.raises(
        PromptTooLongError,
        match=rf"task toy, example test:0: its longest answer has the decoder read {read} tokens, the model reads "
        rf"{read - 1}, and answers are never cut; shorten the answer, leave out the example or choose a model that",
    ):
        TextEncoder(task, toy_bpe, "seq2seq", PromptSettings(), read - 1).encode(example)
    TextEncoder(task, toy_bpe, "seq2seq", PromptSettings()).encode(example)


def test_a_cut_question_keeps_its_special_tokens_and_its_head_or_its_tail(toy_bpe):
    whole = encoder_of(a_task(), toy_bpe, "seq2seq").encode(QUERY).ids
    head = encoder_of(a_task(), toy_bpe, "seq2seq", max_tokens=len(whole) - 2).encode(QUERY)
    tail = encoder_of(a_task(), toy_bpe, "seq2seq", max_tokens=len(whole) - 2, truncate="tail").encode(QUERY)
    assert head.ids == (whole[0], *whole[3:])
    assert tail.ids == (*whole[:-3], whole[-1])
    assert (head.truncated, tail.truncated) == (2, 2)


# Kinds of tasks


def test_multiple_choice_takes_each_examples_own_candidates(toy_bpe):
    task = a_task({"prompt": "{{ text }}", "answer": " {{ candidate }}"}, kind="multiple-choice")
    encoder = encoder_of(task, toy_bpe)
    found = encoder.encode(Example("a", ("x",), "c", ("b", "c", "d"), ("d", "c")))
    assert [toy_bpe.decode(option) for option in found.options] == [" b", " c", " d"]
    assert (found.label, found.right) == (2, (2, 1))
    for wrong, message in (
        (Example("a", ("x",), "b"), "example a: has no candidates to choose from"),
        (Example("a", ("x",), "b", ("b", "b"), ("b",)), "example a: has the candidate 'b' twice"),
        (
            Example("a", ("x",), "ann", ("anne", "bob"), ("ann",)),
            "the right answer 'ann' is not among its candidates; did",
        ),
        (Example("a", ("x", "y"), "b", ("b",), ("b",)), r"example a: has 2 texts; the task has 1 \(text\)"),
    ):
        with pytest.raises(DataError, match=message):
            encoder.encode(wrong)


def test_generation_is_asked_without_and_taught_with_its_first_answer(toy_bpe):
    task = a_task({"prompt": "{{ text }}:", "answer": " {{ candidate }}\n"}, kind="generation", metrics=["exact-match"])
    example = Example("a", ("a film",), "good", golds=("good", "great"))
    found = encoder_of(task, toy_bpe).encode(example)
    assert toy_bpe.decode(found.ids) == "<s>a film:"
    assert [toy_bpe.decode(option) for option in found.options] == [" good\n"]
    assert (found.golds, found.right, found.label, found.taught) == (("good", "great"), (), 0, None)
    cut = encoder_of(task, toy_bpe, max_tokens=50 + len(found.ids)).encode(example)
    assert cut.ids == found.ids
    assert cut.taught is not None  # The answer takes the place of the prompt's beginning.
    assert (*cut.taught.ids, *cut.options[0]) == (
        found.ids[0],
        *found.ids[1 + len(found.options[0]) :],
        *found.options[0],
    )
    with pytest.raises(DataError, match="example b: has no right answer"):
        encoder_of(task, toy_bpe).encode(Example("b", ("a film",), 1.0))


def test_an_unknown_label_is_named_and_so_are_all_examples_with_a_mistake(toy_bpe):
    wrong = [Example(f"train:{n}", ("a film",), "good") for n in range(3)]
    with pytest.raises(DataError, match="task toy, example train:0: has the unknown label 'good'") as caught:
        encoder_of(a_task(), toy_bpe).encode_all([QUERY, *wrong])
    assert caught.value.__notes__ == ["2 more examples have such a mistake: train:1, train:2"]
    with pytest.raises(DataError) as caught:
        encoder_of(a_task(), toy_bpe).encode_all(wrong[:2])
    assert caught.value.__notes__ == ["one more example has such a mistake: train:1"]


# Mistakes in demonstrations and calibration


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ({"count": 9}, r"9 demonstrations are asked for, but task toy has 4 training examples; .*count=4 would fit"),
        ({"count": 3, "per_label": True}, r"3 demonstrations of label '0' are asked for, but task toy has 2 training"),
    ],
)
def test_too_few_examples_to_demonstrate_with_are_refused(toy_bpe, shown, message):
    encoder = encoder_of(a_task(), toy_bpe, pool=examples(4), demonstrations={"kind": "in-context"} | shown)
    with pytest.raises(DataError, match=message):
        encoder.encode(QUERY)
    with pytest.raises(DataError, match=r"prompt\.demonstrations: task toy has no training examples to draw them from"):
        encoder_of(a_task(), toy_bpe, demonstrations={"kind": "in-context"} | shown).encode(QUERY)


def test_demonstrations_that_do_not_suit_are_refused(toy_bpe):
    choice = a_task({"prompt": "{{ text }}"}, kind="multiple-choice")
    with pytest.raises(TemplateError, match="are counted per label, and task toy is of kind multiple-choice"):
        encoder_of(choice, toy_bpe, demonstrations={"kind": "in-context", "per_label": True})
    with pytest.raises(TemplateError, match="of kind 'gpt3' are not for templates with a text form"):
        TextEncoder(a_task(), toy_bpe, "causal", PromptSettings.model_validate({"demonstrations": {"kind": "gpt3"}}))
    with pytest.raises(ValueError, match='sampling="python" draws once for all examples'):
        PromptSettings.model_validate({"demonstrations": {"kind": "in-context", "sampling": "python", "samples": 2}})


def test_calibration_that_cannot_be_had_is_refused(toy_bpe):
    with pytest.raises(
        TemplateError, match=r"template 'only' \(text.calibration\): there is none; write what the prompt"
    ):
        encoder_of(a_task({"prompt": "{{ text }}"}), toy_bpe, calibration="surface-form").encode(QUERY)
    alike = a_task({"prompt": "x", "answer": " {{ text.replace('@', candidate) }}"})
    with pytest.raises(
        TemplateError, match=r"all answers are alike, for they are made of the example's texts; .*'N/A'"
    ):
        encoder_of(alike, toy_bpe, calibration="contextual").encode(Example("a", ("a @",), "0"))
    fussy = a_task({"prompt": "{{ {'a film': 1}[text] }}"})
    with pytest.raises(TemplateError, match=r"has no attribute 'N/A'; .*\"surface-form\" does not"):
        encoder_of(fussy, toy_bpe, calibration="contextual").encode(QUERY)
