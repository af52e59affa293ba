from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.metrics_twin import TEXT_TWINS, subsequence
from shoestring.errors import DataError
from shoestring.tasks.metrics import METRICS, compute_texts
from shoestring.tasks.text_metrics import common_subsequence, normalized, rouge_l, string_match, token_f1

words = st.lists(st.sampled_from(["the", "Tiber", "tiber,", "a", "river", "no", "answer", "5.0", "--"]), max_size=6)
texts = words.map(" ".join) | st.sampled_from(["CANNOTANSWER", "no answer", ""])


@given(answer=texts, golds=st.lists(texts, min_size=1, max_size=3))
def test_written_answers_are_worth_what_the_twin_says(answer: str, golds: list[str]) -> None:
    for name, twin in TEXT_TWINS.items():
        worth = METRICS.get(name).worth
        assert worth is not None
        assert worth(answer, golds) == pytest.approx(twin(answer, golds), abs=1e-15)


@pytest.mark.parametrize(
    ("answer", "golds", "f1"),
    [
        ("", ["x"], 0.0),
        ("", [""], 0.0),
        ("cannot answer", ["CANNOTANSWER"], 0.0),
        ("CannotAnswer.", ["CANNOTANSWER", "x"], 1.0),
        ("x", ["no answer", "x"], 0.0),
        ("no", ["x", "no answer"], 2 / 3),
        ("to be or not to be", ["to be"], 0.5),
    ],
)
def test_f1_at_its_corners(answer: str, golds: list[str], f1: float) -> None:
    assert token_f1(answer, golds) == pytest.approx(f1)


def test_articles_inside_of_words_stay() -> None:
    assert normalized("Athena, an the Atheist!") == "athena atheist"


def test_metrics_of_texts_are_means() -> None:
    found = compute_texts(["token-f1", "exact-match"], ["Rome", "in Rome", "x"], [["rome"], ["Rome", "in"], ["y"]])
    assert found == {"token-f1": pytest.approx((1 + 2 / 3) / 3), "exact-match": pytest.approx(1 / 3)}
    assert [METRICS.get(name).title for name in found] == ["F1", "EM"]


def test_other_metrics_and_other_numbers_of_answers_are_refused() -> None:
    with pytest.raises(DataError, match="accuracy: is not for written answers"):
        compute_texts(["accuracy"], ["x"], [["x"]])
    with pytest.raises(DataError, match="F1: 1 answers for 2 questions"):
        compute_texts(["token-f1"], ["x"], [["x"], ["y"]])
    with pytest.raises(DataError, match="EM: there are no examples to score"):
        compute_texts(["exact-match"], [], [])
    with pytest.raises(DataError, match="ROUGE-L: question 1 has no right answer"):
        compute_texts(["rouge-l"], ["x", "y"], [["x"], []])


letters = st.lists(st.sampled_from("abcd"), max_size=70)


@given(one=letters, other=letters)
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    assert common_subsequence(one, other) == subsequence(one, other)


def test_rouge_l_of_known_sentences() -> None:
    # Lin 2004, section 3.1, with beta = 1.
    assert rouge_l("police kill the gunman", ["police killed the gunman"]) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", ["police killed the gunman"]) == pytest.approx(0.5)
    assert rouge_l("", ["police killed the gunman"]) == 0.0


def test_the_same_text_is_the_same_letter_for_letter() -> None:
    assert string_match(" entailment\n", ["neutral", "entailment"]) == 1.0
    assert string_match("Entailment", ["entailment"]) == 0.0
