"""The metrics, by hand: counts and sums in plain Python."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def accuracy(predictions: Sequence[float], targets: Sequence[float]) -> float:
    return sum(p == t for p, t in zip(predictions, targets, strict=True)) / len(targets)


def f1(predictions: Sequence[float], targets: Sequence[float]) -> float:
    both = sum(p == t == 1 for p, t in zip(predictions, targets, strict=True))
    either = sum(p == 1 for p in predictions) + sum(t == 1 for t in targets)
    return 2 * both / either if either else 0.0


def mcc(predictions: Sequence[float], targets: Sequence[float]) -> float:
    """Correlation of the one-hot rows, summed over labels."""
    labels, n = {*predictions, *targets}, len(targets)

    def covariance(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(
            n * sum(x == label == y for x, y in zip(a, b, strict=True)) - a.count(label) * b.count(label)
            for label in labels
        )

    scale = math.sqrt(covariance(predictions, predictions) * covariance(targets, targets))
    return covariance(predictions, targets) / scale if scale else 0.0


def pearson(predictions: Sequence[float], targets: Sequence[float]) -> float:
    a, b = (
        [x - math.fsum(side) / len(side) for x in side] if len(set(side)) > 1 else [0.0] * len(side)
        for side in (predictions, targets)
    )
    scale = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / scale if scale else 0.0


def spearman(predictions: Sequence[float], targets: Sequence[float]) -> float:
    def ranks(side: Sequence[float]) -> list[float]:
        return [sum(y < x for y in side) + (side.count(x) + 1) / 2 for x in side]

    return pearson(ranks(predictions), ranks(targets))


TWINS = {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}


def words_of(text: str) -> list[str]:
    """Return the words of a text as the published metric sees them, word by word and character by character."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def token_f1(answer: str, golds: Sequence[str]) -> float:
    if golds[0] in ("CANNOTANSWER", "no answer"):
        return float(words_of(answer) == words_of(golds[0]))
    worths = []
    for gold in golds:
        left, same = words_of(gold), 0
        for word in words_of(answer):
            if word in left:
                left.remove(word)
                same += 1
        if same == 0:
            worths.append(0.0)
            continue
        precision, recall = same / len(words_of(answer)), same / len(words_of(gold))
        worths.append(2 * precision * recall / (precision + recall))
    return max(worths)


def exact_match(answer: str, golds: Sequence[str]) -> float:
    return float(any(words_of(answer) == words_of(gold) for gold in golds))


def rouge_l(answer: str, golds: Sequence[str]) -> float:
    worths = [0.0]
    for gold in golds:
        given, right = (
            "".join(c if c in string.ascii_lowercase + string.digits else " " for c in one.lower()).split()
            for one in (answer, gold)
        )
        common = subsequence(given, right)
        if common:
            precision, recall = common / len(given), common / len(right)
            worths.append(2 * precision * recall / (precision + recall))
    return max(worths)


def subsequence(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence, from the table of all prefixes."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, another in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if word == another else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def string_match(answer: str, golds: Sequence[str]) -> float:
    return float(any(answer.strip() == gold.strip() for gold in golds))


TEXT_TWINS = {"token-f1": token_f1, "exact-match": exact_match, "rouge-l": rouge_l, "string-match": string_match}
