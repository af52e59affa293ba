"""What runs answered: who takes what for what, and the examples that all find hard."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shoestring.report.logs import softmax
from shoestring.tasks.metrics import METRICS

if TYPE_CHECKING:
    pass

Row = Mapping[str, Any]
_Example = tuple[int, str, tuple[str, ...]]  # The number of its test set, its uid, the right answers.
MOST_CLASSES = 24
"""Labels of a task whose confusions are shown; of more, numbers for each class alone."""
SAID = 4
"""Different answers of one row that are shown of an example."""


@dataclass(frozen=True)
class ClassNumbers:
    """How one label fared: of `support` examples; None where nothing was there to divide by."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Confusion:
    """Predictions of several seeds put together.

    Attributes:
        counts: [C][C], how often label i was taken for label j.
        runs: how many runs that is.
    """

    counts: tuple[tuple[int, ...], ...]
    runs: int

    @property
    def classes(self) -> tuple[tuple[float | None, float | None, float | None, int], ...]:
        """Precision, recall, F1 and support of each label."""
        found = []
        for at, row in enumerate(self.counts):
            hits, support, taken = row[at], sum(row), sum(other[at] for other in self.counts)
            f1 = 2 * hits / (support + taken) if support + taken else None
            found.append((hits / taken if taken else None, hits / support if support else None, f1, support))
        return tuple(found)


def confusion(task: Mapping[str, Any], runs: Sequence[Sequence[Row]]) -> Confusion | None:
    """Return how often each label was taken for each, over the predictions of several runs.

    None where the task has no labels to be taken for another, or nothing was predicted.
    """
    if not has_classes(task):
        return None
    names = {str(label["name"]): at for at, label in enumerate(task["labels"])}
    counts = [[0] * len(names) for _ in names]
    for rows in runs:
        for row in rows:
            true, said = names.get(str(row.get("label"))), names.get(str(row["prediction"]))
            if true is not None and said is not None:
                counts[true][said] += 1
    if not any(map(any, counts)):
        return None
    return Confusion(tuple(map(tuple, counts)), sum(1 for rows in runs if rows))


def has_classes(task: Mapping[str, Any]) -> bool:
    """Return whether a task is to choose among labels of its own."""
    return task.get("kind", "classification") == "classification" and bool(task["labels"])


@dataclass
class _Said:
    """What one row of the table said of one example, in several seeds."""

    answers: Counter[str] = field(default_factory=Counter[str])
    worths: list[float] = field(default_factory=list[float])
    shares: list[list[float]] = field(default_factory=list[list[float]])


@dataclass(frozen=True)
class Answer:
    """What one row of the table says of an example.

    Attributes:
        row: number of the table's row.
        said: answer -> how many seeds gave it, the most frequent first; the first few.
        runs: how many seeds answered.
        worth: mean over seeds: 1 for right and 0 for wrong; of written answers the metric; of values the distance.
        shares: softmax over the candidates' scores, mean over seeds; () where there are none.
    """

    row: int
    said: tuple[tuple[str, int], ...]
    runs: int
    worth: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Hard:
    """An example, and what every row of the table says of it.

    Attributes:
        uid: which.
        gold: the right answer, or all of them.
        candidates: what the shares are of.
        prompt: what the model read; None where no run kept it.
        trouble: what examples are ordered by: mean over rows of the share that the right answer lacks.
        answers: one for each row.
    """

    uid: str
    gold: tuple[str, ...]
    candidates: tuple[str, ...]
    prompt: str | None
    trouble: float
    answers: tuple[Answer, ...]


class Examples:
    """Collects predictions of one test set, run by run, and finds the examples that all methods find hard.

    Args:
        task: the task as it stands in a record.
        metric: its main metric, for written answers.
    """

    def __init__(self, task: Mapping[str, Any], metric: str) -> None:
        self._task, self._metric = task, metric
        self._kind = str(task.get("kind", "classification"))
        self._said: dict[_Example, dict[int, _Said]] = defaultdict(lambda: defaultdict(_Said))
        self._prompts: dict[_Example, str] = {}
        self._candidates: dict[_Example, tuple[str, ...]] = {}
        self._tests: list[dict[str, tuple[str, ...]]] = []

    def add(self, row: int, rows: Iterable[Row]) -> None:
        """Take the predictions of a run of one of the table's rows."""
        answers = list(rows)
        test = self._test({str(answer["uid"]): _gold(answer) for answer in answers})
        for answer in answers:
            gold = _gold(answer)
            one = (test, str(answer["uid"]), gold)
            said = self._said[one][row]
            said.answers[_text(answer["prediction"])] += 1
            said.worths.append(self._worth(answer, gold))
            if self._kind != "regression" and len(scores := answer.get("scores") or ()) > 1:
                said.shares.append(softmax(scores))
            if "prompt" in answer:
                self._prompts.setdefault(one, str(answer["prompt"]))
            if "candidates" in answer:
                self._candidates.setdefault(one, tuple(map(str, answer["candidates"])))

    def _test(self, golds: dict[str, tuple[str, ...]]) -> int:
        """Return which test set these are right answers of: examples are named by their lines, and files differ."""
        for number, known in enumerate(self._tests):
            if all(known.get(uid, gold) == gold for uid, gold in golds.items()):
                known |= golds
                return number
        self._tests.append(golds)
        return len(self._tests) - 1

    def hardest(self, count: int) -> list[Hard]:
        """Return the `count` examples of the most trouble, those that the most rows were asked about first.

        Trouble is 1 - (share of the right answer), where shares and candidates are known, else 1 - worth; of values the
        distance. Mean over seeds, then over rows.
        """
        found = [self._hard(one, rows) for one, rows in self._said.items()]
        return sorted(found, key=lambda hard: (-len(hard.answers), -hard.trouble, hard.uid))[:count]

    def _hard(self, one: _Example, rows: Mapping[int, _Said]) -> Hard:
        _, uid, gold = one
        names = tuple(str(label["name"]) for label in self._task["labels"]) or self._candidates.get(one, ())
        right = [at for at, name in enumerate(names) if name in gold]
        answers = []
        troubles = []
        for row, said in sorted(rows.items()):
            shares = tuple(statistics.fmean(values) for values in zip(*said.shares, strict=False))
            worth = statistics.fmean(said.worths)
            known = right and len(shares) == len(names)
            lacking = 1 - max(shares[at] for at in right) if known else 1 - worth
            troubles.append(worth if self._kind == "regression" else lacking)
            few = tuple(said.answers.most_common(SAID))
            answers.append(Answer(row, few, len(said.worths), worth, shares if known else ()))
        trouble = statistics.fmean(troubles)
        return Hard(uid, gold, names, self._prompts.get(one), trouble, tuple(answers))

    def _worth(self, answer: Row, gold: tuple[str, ...]) -> float:
        said = answer["prediction"]
        if self._kind == "regression":
            return abs(float(said) - float(answer["label"]))
        worth = METRICS.get(self._metric).worth
        if self._kind == "generation" and worth is not None:
            return worth(str(said), gold)
        return float(str(said) in gold)


def _gold(answer: Row) -> tuple[str, ...]:
    golds = answer.get("golds")
    return tuple(map(str, golds)) if golds else (_text(answer.get("label")),)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
