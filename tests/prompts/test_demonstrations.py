"""Demonstrations are those of the published rules, token for token: a twin made of strings says what is right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prompts.demonstrated import LONGEST, SEED, WORDS, drawing, examples_of, known_words, settings_of
from reference import demonstrations_twin, prompt_twin
from shoestring.data.example import Example
from shoestring.errors import PromptTooLongError
from shoestring.prompts import Kind, PromptSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.pool import Pool
from shoestring.seeds import numpy_stream
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import Task

LM_BFF = task_names("lm-bff")


def label_of(task: Task, example: Example) -> int:
    if task.range is not None:
        return demonstrations_twin.polarity(float(example.label), task.range.threshold)
    return task.label_names.index(str(example.label))


def order_of(example: Example, draw: int, count: int) -> list[int]:
    return numpy_stream(SEED, "demonstrations", example.uid, draw).permutation(count).tolist()


def check(found, twin, longest: int, cut: int = 0) -> None:
    assert list(found.ids) == twin.ids[-longest:]
    assert list(found.segment_ids) == twin.segments[-longest:]
    assert found.position == twin.mask
    assert found.truncated == twin.cut + cut


def asked(tokenizer, task: Task, template: str, words, sentences, labels=None, longest: int = 10_000):
    return prompt_twin.encode(
        template,
        list(sentences),
        tokenizer,
        words=words,
        demonstration_labels=labels,
        first_limit=task.limits.first_sentence_tokens,
        other_limit=task.limits.other_sentence_tokens,
        max_tokens=longest,
    )


@pytest.mark.parametrize("name", LM_BFF)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "toy_wordpiece", "roberta"])
def test_one_demonstration_a_label_equals_the_twin_in_every_draw(request, name, tokenizer):
    tokenizer, task = request.getfixturevalue(tokenizer), load_task(name)
    pool = examples_of(task, 40)
    poles = task.range is not None
    shown = {"kind": "per-label", "samples": 3, "as_published": True} if poles else {"kind": "per-label", "samples": 3}
    encoder = build_encoder(task, tokenizer, "masked", settings_of(task, **shown), LONGEST, Pool(tuple(pool), SEED))
    template = demonstrations_twin.per_label(
        str(task.template().masked), len(task.sentences), 1 if poles else len(task.labels)
    )
    longest = task.limits.max_tokens * (2 if task.limits.double_with_demonstrations else 1)
    labels = [label_of(task, example) for example in pool]
    for query in examples_of(task, 4, "test"):
        prompt = encoder.encode(query)
        draws = (prompt, *prompt.variants)
        assert len(draws) == 3
        for draw, found in enumerate(draws):
            order = order_of(query, draw, len(pool))
            rows = demonstrations_twin.select_per_label(labels, order, len(task.labels))
            sentences = [*query.sentences, *(text for row in rows for text in pool[row].sentences)]
            words = [list(option) for option in found.options]
            twin = asked(tokenizer, task, template, words, sentences, longest=longest)
            check(replace(found, truncated=twin.cut) if draw == 0 else found, twin, longest)
        assert prompt.truncated >= max(found.truncated for found in prompt.variants)


@pytest.mark.parametrize("name", LM_BFF)
@pytest.mark.parametrize("place", ["head", "tail"])
@pytest.mark.parametrize("separator", [None, "\n\n\n"])
def test_gpt3_style_equals_the_twin(toy_bpe, name, place, separator):
    task, count = load_task(name), 5
    pool = examples_of(task, 12)
    shown = {"kind": "gpt3", "count": count, "place": place, "separator": separator}
    if separator is None and place == "head":
        shown["as_published"] = True
    encoder = build_encoder(task, toy_bpe, "masked", settings_of(task, **shown), LONGEST, Pool(tuple(pool), SEED))
    transform = demonstrations_twin.gpt3 if separator is None else demonstrations_twin.mezo_gpt3
    template = transform(str(task.template().masked), len(task.sentences), count, head=place == "head")
    query = examples_of(task, 1, "test")[0]
    rows = order_of(query, 0, len(pool))[:count]
    sentences = [*query.sentences, *(text for row in rows for text in pool[row].sentences)]
    found = encoder.encode(query)
    words = [list(option) for option in found.options]
    twin = asked(toy_bpe, task, template, words, sentences, [label_of(task, pool[row]) for row in rows])
    assert len(twin.ids) < LONGEST
    check(found, twin, LONGEST)


@pytest.mark.parametrize("name", LM_BFF)
def test_gpt3_style_for_causal_models_equals_mezos_twin(toy_bpe, name):
    task, count = load_task(name), 4
    pool = examples_of(task, 9)
    settings = settings_of(task, kind="gpt3", count=count)
    encoder = build_encoder(task, toy_bpe, "causal", settings, 2048, Pool(tuple(pool), SEED))
    template = demonstrations_twin.mezo_gpt3(str(task.template().causal), len(task.sentences), count, head=True)
    query = examples_of(task, 1, "test")[0]
    rows = order_of(query, 0, len(pool))[:count]
    sentences = [*query.sentences, *(text for row in rows for text in pool[row].sentences)]
    found = encoder.encode(query)
    words = [list(option) for option in found.options]
    twin = asked(toy_bpe, task, template, words, sentences, [label_of(task, pool[row]) for row in rows])
    assert list(found.ids) == twin.ids
    assert found.position == len(twin.ids) - 1


def test_demonstrations_are_drawn_from_all_examples_alike(toy_bpe):
    task = load_task("SST-2")
    pool = [Example(f"train:{row}", (WORDS[row],), str(row % 2)) for row in range(8)]
    encoder = drawing(toy_bpe, task, Pool(tuple(pool), SEED), kind="per-label", samples=400)
    counts = dict.fromkeys((example.uid for example in pool), 0)
    for shown in encoder.draws(Example("test:0", ("a",), "0")):
        assert [example.label for example in shown] == ["0", "1"]
        for example in shown:
            counts[example.uid] += 1
    # 400 draws of one in four: 100 each, standard deviation 8.7.
    assert all(abs(count - 100) < 35 for count in counts.values())


def test_a_demonstration_is_never_the_query_itself(toy_bpe):
    task = load_task("SST-2")
    pool = examples_of(task, 16)
    encoder = drawing(toy_bpe, task, Pool(tuple(pool), SEED), kind="per-label", samples=40)
    for example in pool:
        drawn = {shown.uid for draw in encoder.draws(example) for shown in draw}
        assert drawn
        assert example.uid not in drawn


def test_the_draws_of_an_example_depend_on_nothing_but_seed_and_uid(toy_bpe):
    task = load_task("SST-2")
    pool, queries = examples_of(task, 20), examples_of(task, 5, "test")
    settings = settings_of(task, kind="per-label", samples=3)

    def encoder(seed: int):
        return build_encoder(task, toy_bpe, "masked", settings, LONGEST, Pool(tuple(pool), seed))

    together = encoder(1).encode_all(queries)
    assert together == [encoder(1).encode(query) for query in reversed(queries)][::-1]
    assert together != encoder(2).encode_all(queries)
    assert len({way.ids for way in (together[0], *together[0].variants)}) > 1


def test_the_text_shows_the_template_of_the_paper(toy_bpe):
    task = load_task("SST-2")
    pool = (Example("train:0", ("a dull film .",), "0"), Example("train:1", ("a fine film .",), "1"))
    encoder = build_encoder(task, toy_bpe, "masked", settings_of(task, kind="per-label"), LONGEST, Pool(pool))
    query = Example("test:0", ("This is it .",), "1")
    first, second = (f" {word}" for word in known_words(task).values())
    assert encoder.text(query) == (
        f"<cls>This is it . It was<mask>.<sep>a dull film . It was{first}.<sep>a fine film . It was{second}.<sep>"
    )
    assert len(encoder.encode(query).variants) == 15
    causal = build_encoder(task, toy_bpe, "causal", settings_of(task, kind="per-label"), LONGEST, Pool(pool))
    assert causal.text(query) == (
        f"<bos>a dull film . It was{first}\n\n\na fine film . It was{second}\n\n\nThis is it . It was"
    )


def test_both_poles_of_a_value_are_shown_and_in_the_published_form_the_low_one_alone(toy_bpe):
    task = load_task("STS-B")
    pool = (Example("train:0", ("a", "b"), 2.5), Example("train:1", ("c", "d"), 2.6))
    query = Example("test:0", ("x", "y"), 1.0)
    low, high = (f" {word}" for word in known_words(task).values())
    shown = build_encoder(task, toy_bpe, "masked", settings_of(task, kind="per-label"), LONGEST, Pool(pool))
    alone = "<cls>x<mask>, y<sep>a" + low + ", b<sep>"
    assert shown.text(query) == alone + "c" + high + ", d<sep>"
    settings = settings_of(task, kind="per-label", as_published=True)
    assert build_encoder(task, toy_bpe, "masked", settings, LONGEST, Pool(pool)).text(query) == alone


@pytest.mark.parametrize("as_published", [False, True])
def test_the_begin_token_comes_first_and_in_the_published_form_stays_with_the_query(toy_bpe, as_published):
    task = load_task("SST-2")
    pool = (Example("train:0", ("a",), "0"), Example("train:1", ("b",), "0"))
    settings = settings_of(task, kind="gpt3", count=2, as_published=as_published)
    encoder = build_encoder(task, toy_bpe, "masked", settings, LONGEST, Pool(pool))
    text = encoder.text(Example("test:0", ("q",), "0"))
    assert text.count("<cls>") == 1
    assert text.startswith("<cls>") != as_published
    assert text.endswith("<cls>q It was<mask>.<sep>" if as_published else ".<sep>q It was<mask>.<sep>")


# Limits.


def test_inputs_with_demonstrations_are_longer_where_the_task_says_so_and_as_long_as_the_model_reads_in_gpt3s(toy_bpe):
    def limit(name: str, demonstrations: dict[str, object], kind: Kind = "masked", **settings: object) -> int:
        task = load_task(name)
        pool = Pool(tuple(examples_of(task, 60)))
        table = {"label_words": known_words(task), "demonstrations": demonstrations} | settings
        return build_encoder(task, toy_bpe, kind, PromptSettings.model_validate(table), LONGEST, pool).limit

    assert limit("SST-2", {"kind": "per-label"}) == 128
    assert limit("sst-5", {"kind": "per-label"}) == 256
    assert limit("sst-5", {"kind": "per-label"}, max_tokens=200) == 200
    assert limit("sst-5", {"kind": "gpt3"}) == LONGEST
    assert limit("sst-5", {"kind": "gpt3"}, max_tokens=200) == 200
    assert LONGEST - 8 < limit("SST-2", {"kind": "gpt3"}, "causal") < LONGEST


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_what_does_not_fit_goes_with_the_demonstrations_in_front(toy_bpe, kind):
    task = load_task("SST-2")
    pool = Pool(tuple(examples_of(task, 20)), SEED)
    query = examples_of(task, 1, "test", longest=3)[0]

    def encoded(**settings: object):
        table = {"label_words": known_words(task), "demonstrations": {"kind": "gpt3", "count": 16}} | settings
        return build_encoder(task, toy_bpe, kind, PromptSettings.model_validate(table), 4096, pool).encode(query)

    whole, cut = encoded(), encoded(max_tokens=80)
    assert cut.ids == whole.ids[-80:]
    assert cut.truncated == len(whole.ids) - 80
    assert cut.position is not None
    assert whole.position is not None
    assert cut.position == whole.position - cut.truncated
    with pytest.raises(PromptTooLongError, match=r"cutting its head would cut off .*fewer demonstrations than 16"):
        encoded(max_tokens=1)
    with pytest.raises(PromptTooLongError, match="cutting its tail would cut off"):
        encoded(max_tokens=80, truncate="tail")
    with pytest.raises(PromptTooLongError, match=r"the demonstrations' texts\), the limit is 80"):
        encoded(max_tokens=80, truncate="error")
    with pytest.raises(PromptTooLongError, match="its template leaves no room for the sentences"):
        encoded(max_tokens=30, truncate="sentence")
    assert len(encoded(max_tokens=120, truncate="sentence").ids) == 120


def test_demonstrations_are_cut_by_the_limit_on_other_sentences(toy_bpe):
    task = load_task("SST-2")
    task = task.model_copy(update={"limits": task.limits.model_copy(update={"other_sentence_tokens": 2})})
    pool = (Example("train:0", ("qqqqq",), "0"), Example("train:1", ("zzz",), "1"))
    encoder = build_encoder(task, toy_bpe, "masked", settings_of(task, kind="per-label"), LONGEST, Pool(pool))
    prompt = encoder.encode(Example("test:0", ("xxxxx",), "1"))
    shown = toy_bpe.decode(prompt.ids)
    assert "xxxxx" in shown
    assert "qqq" not in shown
    assert "qq" in shown
    assert prompt.truncated == 3 + 1
