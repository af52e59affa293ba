"""What a written answer is worth, given all right answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

NO_ANSWER = ("CANNOTANSWER", "no answer")
"""Right answers that say there is none: they are met whole or not at all."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """Return the F1 of the answer's words, against the right answer it is nearest to; 0 where they share none.

    F1 = 2 P R / (P + R), with the share P of the answer's words, and the share R of the right answer's, that both have,
    each as often as in both. Words are those of `normalized`.

    >>> token_f1("in the River Tiber", ["Tiber", "the river Po"])
    0.5

    Source: Rajpurkar et al. 2016, section 6.1; princeton-nlp/MeZO large_models/metrics.py.
    """
    if golds[0] in NO_ANSWER:
        return exact_match(answer, golds[:1])
    words = Counter(normalized(answer).split())
    return max(_f1(words, Counter(normalized(gold).split())) for gold in golds)


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """Return 1 if the answer is one of the right ones, else 0; both `normalized`.

    >>> exact_match("The Tiber.", ["tiber"])
    1.0

    Source: Rajpurkar et al. 2016, section 6.1; princeton-nlp/MeZO large_models/metrics.py.
    """
    said = normalized(answer)
    return float(any(said == normalized(gold) for gold in golds))


def rouge_l(answer: str, golds: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words with the right answer it is nearest to.

    Words are runs of the letters a to z and of digits, in small letters, without stemming.

    >>> rouge_l("The cat sat.", ["a dog", "the cat is sitting"])
    0.5714285714285714

    Source: Lin 2004, section 3.1 (one sentence, beta = 1), with the words of Google's `rouge_score`.
    """
    said = _runs(answer)
    return max(_ratio(common_subsequence(said, gold), len(said) + len(gold)) for gold in map(_runs, golds))


def string_match(answer: str, golds: Sequence[str]) -> float:
    """Return 1 if the answer is one of the right ones letter for letter, but for space at the ends, else 0.

    Source: the accuracy of yushengsu-thu/PET_Scaling, there in percent.
    """
    return float(answer.strip() in [gold.strip() for gold in golds])


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest sequence of words that both hold in this order, others between them.

    A row of the table of lengths, which grow by 0 or 1 from word to word, is one number: bit i is 0 where they grow.

    Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: Counter[str] = Counter()
    for place, word in enumerate(one):
        places[word] |= 1 << place
    every = row = (1 << len(one)) - 1
    for word in other:
        found = row & places[word]
        row = ((row + found) | (row - found)) & every
    return len(one) - row.bit_count()


def normalized(text: str) -> str:
    """Return a text in small letters, without punctuation, articles and superfluous white space.

    >>> normalized(" The U.S.  Navy")
    'us navy'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(words: Counter[str], gold: Counter[str]) -> float:
    return _ratio((words & gold).total(), words.total() + gold.total())


def _ratio(same: int, both: int) -> float:
    return 2 * same / both if same else 0.0


def _runs(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())
