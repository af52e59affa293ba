"""Whole texts to model inputs: framing, demonstrations, limits."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.texts import PET, QUERY, UNEVEN, a_task, encoder_of, examples, sequences
from reference import text_twin
from shoestring.data.example import Example
from shoestring.errors import DataError, PromptTooLongError, TemplateError
from shoestring.prompts.settings import PromptSettings
from shoestring.prompts.text import BARE, TextEncoder
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import Task

# What is read, as text


def test_demonstrations_stand_in_front_of_the_question_and_lose_their_ends(toy_bpe):
    pool = [Example("train:0", (" one \n",), "0"), Example("train:1", ("two",), "1")]
    shown = {"kind": "in-context", "count": 2, "order": "given"}
    assert encoder_of(a_task(), toy_bpe, pool=pool, demonstrations=shown).text(QUERY) == (
        "one \n It was bad\n\ntwo It was good\n\na film It was"
    )
    shown |= {"separator": " | ", "max_characters": 2}
    assert encoder_of(a_task(), toy_bpe, pool=pool, demonstrations=shown).text(QUERY) == (
        "o It was bad | tw It was good | a film It was"
    )


def test_the_framing_of_pet_scaling_keeps_every_character_and_has_demonstrations_of_its_own(toy_bpe):
    pool = [Example("train:0", (" one two ",), "0"), Example("train:1", ("three\n",), "1")]
    shown = {"kind": "in-context", "count": 2, "order": "given"}
    encoder = encoder_of(a_task(PET), toy_bpe, pool=pool, demonstrations=shown)
    assert encoder.text(QUERY) == " one \nbad\n\n\nthree\ngood\n\n\nInput: a film Output: "
    (way,) = encoder.ways(QUERY)
    assert way.question.read[0] == " one \nbad\n\n\nthree\ngood\n\n\nInput: a film Output: bad"


PET_TASKS = [name for name in task_names() if name.startswith("pet/")]


@pytest.mark.parametrize("name", PET_TASKS)
def test_every_task_of_pet_scaling_equals_its_twin(toy_bpe, stories, name):
    task = load_task(name)
    for tokenizer, opening in ((toy_bpe, [0]), (stories, [1])):
        end, twin = tokenizer.eos_token_id, text_twin.Tokenizer(tokenizer, opening)
        for template in [key for key in task.templates if key in ("pet", "number")]:
            stream = random.Random(name + template)
            words = task.label_words(task.templates[template]) or ("one two", "three")
            texts = [f"premise: {stream.random()} a film . [SEP] " * 12 for _ in range(4)]
            drawn = [Example(f"train:{n}", (text,), *said(task, words, n)) for n, text in enumerate(texts)]
            query, pool = drawn[0], drawn[1:]
            cut = None if name == "pet/cb-2" else 256  # As in the published class of that task alone.
            before = "".join(f"{text[:cut]}\n{words[n % len(words)]}\n\n\n" for n, text in enumerate(texts) if n)
            for shown, front in ((None, ""), ({"kind": "in-context", "count": 3, "order": "given"}, before)):
                encoder = encoder_of(
                    task, tokenizer, pool=pool, template=template, demonstrations=shown, max_tokens=300
                )
                prompt = f"{front}Input: {texts[0]} Output: "
                assert encoder.text(query) == prompt
                found = encoder.encode(query)
                if task.kind == "generation":
                    assert list(found.ids) == twin.cut(twin.encode(prompt), encoder.limit)
                    found, words = found.taught or found, words[:1]
                wanted = [twin.cut([*twin.encode(prompt + word), end], encoder.limit) for word in words]
                assert sequences(found) == wanted
                assert all(option[-1] == end for option in found.options)


def said(task: Task, words: tuple[str, ...], number: int) -> tuple[Any, ...]:
    if task.labels:
        return (task.label_names[number % len(words)],)
    return words[number % len(words)], (), (words[number % len(words)],)


def test_with_every_character_kept_the_answer_begins_where_it_parts_from_the_prompt(roberta):
    found = encoder_of(a_task(PET), roberta).encode(QUERY)
    # The prompt ends in a space, which the tokenizer puts in front of the answer's word.
    assert roberta.decode(found.ids[1:]) == "Input: a film Output:"
    assert [roberta.convert_ids_to_tokens(option) for option in map(list, found.options)] == [
        ["Ġbad", "</s>"],
        ["Ġgood", "</s>"],
    ]
    assert found.scored == ()


# Demonstrations


def test_an_example_is_never_among_its_own_demonstrations(toy_bpe):
    pool = examples(6)
    encoder = encoder_of(a_task(), toy_bpe, pool=pool, demonstrations={"kind": "in-context", "count": 5})
    for example in pool:
        assert encoder.text(example).count(example.sentences[0] + " It") == 1
        assert encoder.text(example).count("\n\n") == 5
    everything = encoder_of(a_task(), toy_bpe, pool=pool, demonstrations={"kind": "in-context", "count": 6})
    assert everything.text(pool[0]).count("\n\n") == 5  # One fewer, where there are no more.
    assert everything.text(QUERY).count("\n\n") == 6


def test_all_examples_have_the_same_demonstrations_unless_each_is_to_draw_its_own(toy_bpe):
    def fronts(**shown: Any) -> list[str]:
        shown = {"kind": "in-context", "count": 3} | shown
        encoder = encoder_of(a_task(), toy_bpe, pool=examples(30), demonstrations=shown)
        return [encoder.text(query).rpartition("\n\n")[0] for query in examples(5, 100)]

    assert len(set(fronts())) == 1
    assert fronts() == fronts()
    assert len(set(fronts(shared=False))) == 5
    assert fronts(order="given")[0].split("\n\n") == sorted(
        fronts()[0].split("\n\n"), key=lambda text: int(text.split()[2])
    )


def test_demonstrations_are_counted_per_label_where_that_is_asked_for(toy_bpe):
    shown = {"kind": "in-context", "count": 2, "per_label": True}
    pool = [*examples(6), *(Example(f"train:{n}", ("x",), "0") for n in range(10, 30))]
    text = encoder_of(a_task(), toy_bpe, pool=pool, demonstrations=shown).text(QUERY)
    assert (text.count("It was bad"), text.count("It was good")) == (2, 2)


def test_an_example_with_a_training_set_of_its_own_is_shown_that_in_its_order(toy_bpe):
    own = {QUERY.uid: tuple(examples(3)[::-1])}
    encoder = encoder_of(a_task(), toy_bpe, pool=examples(9), own=own, demonstrations={"kind": "in-context"})
    assert encoder.text(QUERY).startswith(
        "a film 2 It was bad\n\na film 1 It was good\n\na film 0 It was bad\n\na film It"
    )
    two = {"kind": "in-context", "count": 2}
    assert encoder_of(a_task(), toy_bpe, own=own, demonstrations=two).text(QUERY).count("\n\n") == 2


def test_pythons_own_sample_is_that_of_pet_scaling(toy_bpe):
    shown = {"kind": "in-context", "count": 4, "sampling": "python"}
    text = encoder_of(a_task(), toy_bpe, pool=examples(20), demonstrations=shown).text(QUERY)
    random.seed(7)
    numbers = random.sample(range(20), 4)
    assert [int(part.split()[2]) for part in text.split("\n\n")[:-1]] == numbers


def test_further_draws_are_variants_with_calibrations_of_their_own(toy_bpe):
    shown = {"kind": "in-context", "count": 2, "samples": 3}
    found = encoder_of(a_task(), toy_bpe, pool=examples(9), demonstrations=shown, calibration="surface-form").encode(
        QUERY
    )
    ways = (found, *found.variants)
    assert len({way.ids for way in ways}) == 3
    assert all(len(way.calibrations) == 1 and len(way.calibrations[0].ids) > 8 for way in ways)
    assert len({way.calibrations[0].ids for way in ways}) == 3


# Limits


def test_without_a_first_token_of_the_tokenizers_all_candidates_are_cut_alike(toy_gpt2):
    whole = encoder_of(a_task(labels=UNEVEN), toy_gpt2).encode(QUERY)
    longest = max(map(len, sequences(whole)))
    found = encoder_of(a_task(labels=UNEVEN), toy_gpt2, max_tokens=longest - 2).encode(QUERY)
    assert (found.ids, found.options, found.truncated) == (whole.ids[2:], whole.options, 2)


def test_a_longer_candidate_leaves_less_of_the_prompt_and_only_answers_are_scored(toy_bpe):
    whole = encoder_of(a_task(labels=UNEVEN), toy_bpe).encode(QUERY)
    first, second = map(len, sequences(whole))
    assert first > second + 1
    found = encoder_of(a_task(labels=UNEVEN), toy_bpe, max_tokens=second - 1).encode(QUERY)
    assert [len(ids) for ids in sequences(found)] == [second - 1, second - 1]
    for cut, uncut, option in zip(sequences(found), sequences(whole), whole.options, strict=True):
        assert cut == [uncut[0], *uncut[len(uncut) - second + 2 :]]
        assert cut[-len(option) :] == list(option)
    assert found.scored == tuple(len(option) for option in whole.options)
    assert found.truncated == first - second + 1


def test_it_is_said_once_that_no_demonstration_is_left(toy_bpe, caplog):
    shown = {"kind": "in-context", "count": 2}
    alone = max(map(len, sequences(encoder_of(a_task(), toy_bpe).encode(QUERY))))
    encoder = encoder_of(a_task(), toy_bpe, pool=examples(9), demonstrations=shown, max_tokens=alone)
    with caplog.at_level(logging.WARNING):
        encoder.encode_all([QUERY, *examples(2)])
    assert [record.getMessage() for record in caplog.records] == [f"task toy, first in example test:0: {BARE}"]


def test_what_must_not_be_cut_is_refused_with_what_the_demonstrations_take(toy_bpe):
    task = a_task()
    with pytest.raises(
        PromptTooLongError, match=r"example test:0: the input has \d+ tokens, the limit is 4 \(max_tokens\)"
    ):
        encoder_of(task, toy_bpe, truncate="error", max_tokens=4).encode(QUERY)
    shown = {"kind": "in-context", "count": 3}
    encoder = encoder_of(task, toy_bpe, pool=examples(5), demonstrations=shown, truncate="error", max_tokens=30)
    with pytest.raises(
        PromptTooLongError, match=r"its 3 demonstrations leave no room for it: of \d+ tokens \d+ are its own"
    ):
        encoder.encode(QUERY)
    with pytest.raises(
        PromptTooLongError, match=r"the limit is 30 \(what the model can read\).*choose a model that reads"
    ):
        TextEncoder(task, toy_bpe, "causal", PromptSettings.model_validate({"truncate": "error"}), 30).encode(
            Example("x", ("a film " * 40,), "0")
        )


def test_an_answer_as_long_as_the_limit_is_refused(toy_bpe, toy_gpt2):
    for tokenizer in (toy_bpe, toy_gpt2):
        with pytest.raises(
            PromptTooLongError, match=r"its longest answer has \d+ tokens, the limit is 2 \(max_tokens\)"
        ):
            encoder_of(a_task(labels=UNEVEN), tokenizer, max_tokens=2).encode(QUERY)


def test_text_forms_are_cut_at_their_head_or_not_at_all(toy_bpe):
    with pytest.raises(
        TemplateError, match=r"prompt\.truncate=sentence cuts sentences, which a text form does not know"
    ):
        encoder_of(a_task(), toy_bpe, truncate="sentence")
    with pytest.raises(TemplateError, match=r"prompt\.truncate=tail would cut off the answer"):
        encoder_of(a_task(), toy_bpe, truncate="tail")


def test_room_for_a_written_answer_is_kept(toy_bpe):
    form = {"prompt": "{{ text }}:", "answer": " {{ candidate }}\n"}
    task = a_task(form, kind="generation", metrics=["exact-match"], generation={"max_new_tokens": 20})
    assert encoder_of(task, toy_bpe, max_tokens=50).limit == 30
    assert encoder_of(task, toy_bpe, "seq2seq", max_tokens=50).limit == 50
    kept = a_task(
        form | {"strip": False}, kind="generation", metrics=["exact-match"], generation={"max_new_tokens": 20}
    )
    assert encoder_of(kept, toy_bpe, max_tokens=50).limit == 50
    assert TextEncoder(kept, toy_bpe, "causal", PromptSettings(max_tokens=50), 60).limit == 40
    with pytest.raises(
        PromptTooLongError, match=r"max_new_tokens is 20, the limit on prompt and answer 20, which leaves no"
    ):
        encoder_of(task, toy_bpe, max_tokens=20)


# Generated texts

TEXT = st.text(st.sampled_from("ab \n.?I"), max_size=12)


@given(
    shown=st.lists(st.tuples(TEXT, TEXT), max_size=3),
    prompt=TEXT,
    answers=st.lists(TEXT, min_size=1, max_size=3, unique=True),
    longest=st.integers(3, 30),
)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "stories"])
def test_generated_texts_equal_the_twin(request, tokenizer, shown, prompt, answers, longest):
    tokenizer = request.getfixturevalue(tokenizer)
    table = {"kind": "multiple-choice", "limits": {"max_tokens": longest}}
    task = a_task({"prompt": "{{ text }}", "answer": "{{ candidate }}"}, **table)
    pool = tuple(Example(f"train:{n}", (one,), gold, (gold,), (gold,)) for n, (one, gold) in enumerate(shown))
    query = Example("test:0", (prompt,), answers[0], tuple(answers), (answers[0],))
    twin = text_twin.encode_candidates(
        text_twin.Tokenizer(tokenizer, tokenizer.encode("")[:1]), longest, shown, "\n\n", prompt, answers
    )
    encoder = encoder_of(task, tokenizer, own={query.uid: pool}, demonstrations={"kind": "in-context"})
    # White space in front of everything is not read, so it is not scored either.
    counts = [min(count, len(ids) - 1) for ids, count in zip(twin.encodings, twin.option_lens, strict=True)]
    try:
        found = encoder.encode(query)
    except DataError:
        assert min(counts) < 1 or len({tuple(ids) for ids in twin.encodings}) < len(answers)
    except PromptTooLongError:
        assert max(twin.option_lens) >= longest
    else:
        assert sequences(found) == twin.encodings
        assert list(found.scored_lengths) == counts
