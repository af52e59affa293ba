"""The generated language: deterministic, balanced, free of leaks, with the label words in natural places."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from shoestring.config import build, load_toml
from shoestring.demo import words
from shoestring.demo.assets import _task_file
from shoestring.demo.examples import TASKS, ExampleSettings, Texts, draw
from shoestring.demo.language import LanguageSettings, Style, corpus, pair, question, remark, series, two
from shoestring.demo.tokenizer import MASK, SPECIAL_TOKENS, train, wrap
from shoestring.errors import DataError
from shoestring.seeds import numpy_stream
from shoestring.tasks.spec import Task

USAGES = {"demo-sentiment": words.SENTIMENT, "demo-question": words.QUESTION, "demo-entailment": words.ENTAILMENT}
SMALL = LanguageSettings(documents=3000)
FEW = ExampleSettings(train_per_label=60, test=60)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return corpus(SMALL)


def shipped(name: str) -> Task:
    return build(Task, load_toml(Path(str(_task_file(name)))), name)


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(documents: list[str]) -> None:
    assert corpus(SMALL) == documents
    assert corpus(SMALL.model_copy(update={"seed": 1})) != documents


def test_two_picks_every_ordered_pair_of_different_elements() -> None:
    rng = numpy_stream(0, "test")
    pairs = Counter(two(rng, "abc") for _ in range(600))
    assert set(pairs) == {(a, b) for a in "abc" for b in "abc" if a != b}
    assert min(pairs.values()) > 60


def test_the_corpus_uses_every_label_word_often_after_a_space(documents: list[str]) -> None:
    counts = Counter(word for document in documents for word in re.findall(r" (\w+)", document))
    for usage in USAGES.values():
        assert min(counts[word] for word in usage.label_words) > 20


def denied(**changes: float) -> Counter[str]:
    """Count what the corpus says of claims that deny what was stated: careful words mean "excluded" there."""
    settings = LanguageSettings(documents=6000).model_copy(update=changes)
    return Counter(word for text in corpus(settings) for word in re.findall(r"Was he not \w+\? (\w+)\.", text))


def test_label_words_fit_more_often_than_chance_but_not_always() -> None:
    said = denied(loose=1)
    assert set(said) == {"No", "Yes", "Maybe"}
    assert 0.34 < said["No"] / said.total() < 0.5
    assert set(denied(loose=1, faithful=1)) == {"No"}


def test_careful_words_always_fit() -> None:
    assert set(denied(loose=0)) == set(words.ENTAILMENT.careful[0])


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_balanced_and_no_text_stands_twice_or_in_the_corpus(name: str, documents: list[str]) -> None:
    splits = draw(name, FEW, Texts(documents))
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 60 * len(TASKS[name].labels),
        "test": 60,
    }
    for rows in splits.values():
        assert len(set(Counter(row.label for row in rows).values())) == 1
    texts = [row.sentences for rows in splits.values() for row in rows]
    assert len(set(texts)) == len(texts)
    whole = "\n".join(documents).casefold()
    joined = [" ".join(sentences).casefold() for sentences in texts]
    assert not [text for text in joined if text in whole]
    if len(TASKS[name].columns) == 2:
        dotted = [document.replace("?", ".").casefold() for document in documents]
        for sentences in texts:
            assert not [text for text in dotted if all(part.casefold() in text for part in sentences)]


@pytest.mark.parametrize("name", TASKS)
def test_examples_depend_on_the_seed_only(name: str, documents: list[str]) -> None:
    texts = Texts(documents)
    assert draw(name, FEW, texts) == draw(name, FEW, texts)
    assert draw(name, FEW, texts) != draw(name, FEW.model_copy(update={"seed": 1}), texts)


def test_a_language_too_small_for_the_examples_says_so() -> None:
    wanted = ExampleSettings(test=6, train_per_label=9000, style=Style(plain=1, choice=0))
    with pytest.raises(DataError, match="too few person texts; ask for fewer examples"):
        draw("demo-question", wanted, Texts([]))


def test_a_document_holds_a_pair_only_if_it_holds_both_sentences() -> None:
    texts = Texts(["The judge was ill. The judge was wet. True? Maybe.", "The cook was ill? No, the cook was well."])
    assert texts.hold(["The judge was ill."])
    assert texts.hold(["The cook was ill.", "The cook was well."])
    assert not texts.hold(["The judge was ill.", "The judge was well."])


def test_the_meaning_of_plain_texts_is_the_label() -> None:
    rng = numpy_stream(0, "test")
    plain = Style(contrast=0, negation=0, faint=0, plain=1, choice=0, hint=0)
    for _ in range(50):
        assert set(re.findall(r"\w+", remark(rng, True, plain))) & set(words.PRAISE)
        assert set(re.findall(r"\w+", remark(rng, False, plain))) & set(words.BLAME)
        for asked, opener in enumerate(words.OPENERS):
            assert question(rng, asked, plain).casefold().startswith(opener)
        premise, claim = pair(rng, 1, plain)
        poles = [pole for scale in words.SCALES for pole in scale if claim.split()[-1][:-1] in pole]
        assert set(re.findall(r"\w+", premise)) & set(poles[0])


@pytest.mark.parametrize("name", TASKS)
def test_the_task_file_agrees_with_the_language(name: str) -> None:
    task, kind = shipped(name), TASKS[name]
    assert task.name == name
    assert task.sentences == kind.columns
    assert task.label_names == kind.labels
    assert task.label_words(task.template()) == USAGES[name].label_words
    source = task.sources.files
    assert source is not None
    assert (source.folder, source.sentences, source.label) == (name, kind.columns, "label")


def test_label_words_are_single_tokens_after_a_space_and_any_text_comes_back(documents: list[str]) -> None:
    tokenizer = train(documents, 1200)
    for usage in USAGES.values():
        for word in usage.label_words:
            assert len(tokenizer.encode(f" {word}").ids) == 1
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(5))
    masked, causal = wrap(tokenizer, "masked", 32), wrap(tokenizer, "causal", 32)
    assert masked.mask_token_id == MASK
    text = "The soup was great, naïvely: 漢字!"
    assert masked.decode(masked(text)["input_ids"]) == f"<s>{text}</s>"
    assert causal.decode(causal(text)["input_ids"]) == f"<s>{text}"


def test_series_judge_texts_of_one_kind_with_label_words_alone() -> None:
    found = series(SMALL.model_copy(update={"series": 300}))
    assert found == series(SMALL.model_copy(update={"series": 300}))
    kinds = ("It was (terrible|great)", "It asks for a (person|place|number|time)", "True\\? (No|Yes|Maybe)")
    for text in found:
        counts = [len(re.findall(rf"{kind}\.", text)) for kind in kinds]
        assert sorted(counts)[:2] == [0, 0]
        assert 2 <= max(counts) <= 8


def test_a_precise_series_means_what_it_says() -> None:
    plain = SMALL.model_copy(update={"series": 300, "precise": 1.0})
    loose = plain.model_copy(update={"precise": 0.0})
    denied = re.compile(
        r"The (\w+)[^.?]* was (?:hungry|starving)\. The \1 was not (?:hungry|starving)\. True\? (\w+)\."
    )
    said = {settings.precise: Counter(word for text in series(settings) for _, word in denied.findall(text))
            for settings in (plain, loose)}  # fmt: skip
    assert set(said[1.0]) == {"No"}
    assert {"Yes", "Maybe"} & set(said[0.0])
