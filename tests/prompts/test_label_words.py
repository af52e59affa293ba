"""Label words are exactly the tokens the published code reads, or an error that says why not."""

from __future__ import annotations

import pytest

from shoestring.errors import LabelWordError, UnknownNameError
from shoestring.prompts.codec import Codec
from shoestring.prompts.label_words import LabelWords, encode_causal, encode_masked, label_words
from shoestring.tasks.spec import Label, Task, Template


def words(*names: str, answer: str = " {word}") -> LabelWords:
    return LabelWords("toy", tuple(str(number) for number in range(len(names))), names, answer)


def task(**template: object) -> Task:
    return Task(
        name="toy",
        sentences=("text",),
        labels=(Label(name="neg", word="bad"), Label(name="pos", word="good")),
        templates={"default": Template.model_validate({"masked": "*mask*", **template})},
    )


def test_roberta_ids_are_the_published_ones(roberta):
    given = words("terrible", "bad", "okay", "good", "great", "No", "Yes")
    assert encode_masked(given, Codec(roberta)) == ((6587,), (1099,), (8578,), (205,), (372,), (440,), (3216,))


def test_words_of_an_uncased_wordpiece_vocabulary_are_found(toy_wordpiece):
    look_up = toy_wordpiece.convert_tokens_to_ids
    assert encode_masked(words("Great", "terrible"), Codec(toy_wordpiece)) == (
        (look_up("great"),),
        (look_up("terrible"),),
    )


def test_words_that_start_with_a_sign_are_looked_up_as_they_stand(toy_bpe):
    assert encode_masked(words("<unk>x"[:1], ".", "<mask>"), Codec(toy_bpe)) == tuple(
        (toy_bpe.convert_tokens_to_ids(token),) for token in ("<", ".", "<mask>")
    )
    with pytest.raises(LabelWordError, match="label '0': '<nothing>' is looked up as it stands and is not in"):
        encode_masked(words("<nothing>"), Codec(toy_bpe))


def test_a_word_of_several_tokens_is_refused_with_its_tokens_and_with_words_near_it(roberta):
    message = (
        r"task toy, label '0': 'horrendously' is 2 tokens to the tokenizer of \S+roberta-bpe "
        r"\('Ġhorrend', 'ously'\); a masked model needs exactly one; single-token words near it: \w+"
    )
    with pytest.raises(LabelWordError, match=message):
        encode_masked(words("horrendously"), Codec(roberta))


def test_an_unknown_word_is_refused(toy_wordpiece):
    with pytest.raises(LabelWordError, match=r"'€' is the unknown token '\[UNK\]' to"):
        encode_masked(words("€"), Codec(toy_wordpiece))


def test_two_words_of_one_token_are_refused(toy_wordpiece):
    with pytest.raises(
        LabelWordError, match=r"label '1': its word 'Great' is the same token .* as 'great' of label '0'"
    ):
        encode_masked(words("great", "Great"), Codec(toy_wordpiece))


def test_causal_words_may_have_any_number_of_tokens(toy_bpe):
    codec = Codec(toy_bpe)
    options = encode_causal(words("great", "quite unheard of", answer="\n{word}."), codec)
    assert [toy_bpe.decode(option) for option in options] == ["\ngreat.", "\nquite unheard of."]


def test_causal_words_must_have_tokens_known_ones_and_differ(toy_wordpiece, toy_gpt2):
    with pytest.raises(LabelWordError, match=r"the answer '\\n' has no token"):
        encode_causal(words("\n", answer="{word}"), Codec(toy_wordpiece))
    with pytest.raises(LabelWordError, match=r"the answer ' great €' holds the unknown token .*'great', '\[UNK\]'"):
        encode_causal(words("great €"), Codec(toy_wordpiece))
    with pytest.raises(LabelWordError, match="'Great' is the same tokens of"):
        encode_causal(words("great", "Great"), Codec(toy_wordpiece))


def test_words_come_from_the_task_the_template_and_the_settings_in_rising_order():
    given = task(label_words={"neg": "awful"})
    assert label_words(given, given.template()).words == ("awful", "good")
    assert label_words(given, given.template(), {"neg": "dull", "pos": "fine"}).words == ("dull", "fine")


def test_wrong_words_are_refused_before_any_tokenizer_is_asked():
    given = task()
    with pytest.raises(UnknownNameError, match="label_words of task toy: unknown label 'ned'; did you mean 'neg'"):
        label_words(given, given.template(), {"ned": "bad"})
    with pytest.raises(LabelWordError, match="task toy, label 'neg': the label word is empty"):
        label_words(given, given.template(), {"neg": " "})
    with pytest.raises(
        LabelWordError, match="label 'pos': its word 'bad' is the same label word as 'bad' of label 'neg'"
    ):
        label_words(given, given.template(), {"pos": "bad"})
    for answer in ("{word} {word}", "word", "{word} {other}"):
        broken = given.template().model_copy(update={"answer": answer})
        with pytest.raises(LabelWordError, match=r"`answer` is .* needs exactly one \{word\} and no other braces"):
            label_words(given, broken)
