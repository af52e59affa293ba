"""The generated language: every text has a meaning, and the corpus talks about meanings more or less carefully.

Three kinds of text have a class each: remarks are bad or good; questions ask who, where, how many or when; of two
statements the second is excluded by the first, follows from it, or is left open. The corpus names the class with
*careful* words that always fit, and loosely with the *label words* of the tasks: about some topics they fit too,
about others people say what they are in the habit of saying (markets are "great", whatever happened there). A model
pretrained on it knows the classes, but misuses the label words the way the corpus does: zero-shot prompting beats
guessing, and a few examples help a lot. Texts judged one after the other, in a series, are mostly judged by what the
label words mean: so examples in the prompt help, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from shoestring.config import Settings
from shoestring.demo import words
from shoestring.seeds import numpy_stream

T = TypeVar("T")
Fact = tuple[words.Scale, bool]
"""A state and whether it is the low pole that holds."""


class LanguageSettings(Settings):
    """How much text, and how loosely it uses the label words."""

    seed: int = 0
    documents: PositiveInt = 24000
    """Documents of the corpus, shared evenly among the three kinds of text."""
    loose: float = Field(default=0.4, ge=0, le=1)
    """Share of verdicts that use a label word instead of a careful word."""
    faithful: float = Field(default=0.2, ge=0, le=1)
    """Share of the label words that fit where the topic has a habit."""
    series: NonNegativeInt = 3600
    """Series of judged texts, besides the documents; the causal model alone reads them."""
    precise: float = Field(default=0.6, ge=0, le=1)
    """Share of the series whose label words always fit; in the others they follow the habit wherever there is one."""


class Style(Settings):
    """How often a text uses the constructions that make it harder to understand."""

    contrast: float = Field(default=0.1, ge=0, le=1)
    """Remarks that turn on "but"."""
    negation: float = Field(default=0.1, ge=0, le=1)
    """Qualities that are denied."""
    faint: float = Field(default=0.1, ge=0, le=1)
    """Qualities that say little: their words are used of good and bad alike, 3 to 1."""
    plain: float = Field(default=0.4, ge=0, le=1)
    """Questions asked with who, where, how many or when in front."""
    choice: float = Field(default=0.1, ge=0, le=1)
    """Questions that offer two answers, with no question word."""
    hint: float = Field(default=0.7, ge=0, le=1)
    """Claims that give themselves away by "not", "somewhat" or "as well"."""


CORPUS_STYLE = Style()
# The class that people are in the habit of naming, by topic (counted modulo four), for each kind of text.
_HABITS = ((None, 0, 1, 1), (None, 2, 3, 2), (None, 1, 1, 2))


def corpus(settings: LanguageSettings) -> list[str]:
    """Return the pretraining documents, one to a few sentences each, in random order."""
    rng = numpy_stream(settings.seed, "demo", "corpus")
    write = (_review, _asking, _talk)
    return [pick(rng, write)(rng, settings) for _ in range(settings.documents)]


def series(settings: LanguageSettings) -> list[str]:
    """Return series of two to eight texts of one kind, each followed by a label word, as in few-shot prompts."""
    rng = numpy_stream(settings.seed, "demo", "series")
    judged = (_judged_remark, _judged_question, _judged_claim)

    def one() -> str:
        precise, write = chance(rng, settings.precise), pick(rng, judged)
        return " ".join(write(rng, precise) for _ in range(int(rng.integers(2, 9))))

    return [one() for _ in range(settings.series)]


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """Return one of `choices`, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def two(rng: np.random.Generator, choices: Sequence[T]) -> tuple[T, T]:
    """Return two different elements of `choices`, all pairs equally likely."""
    first = int(rng.integers(len(choices)))
    second = int(rng.integers(len(choices) - 1))
    return choices[first], choices[second + (second >= first)]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


# -- remarks ---------------------------------------------------------------------------------------------------------


def remark(rng: np.random.Generator, good: bool, style: Style) -> str:
    """Return a remark that means `good` or not, such as "The soup in Rome was not stale, but everyone complained"."""
    return f"{_about(rng, pick(rng, words.THINGS))} {_opinion(rng, good, style)}."


def _about(rng: np.random.Generator, noun: str) -> str:
    return f"The {noun} in {pick(rng, words.TOWNS)}" if chance(rng, 0.5) else f"The {noun}"


def _opinion(rng: np.random.Generator, good: bool, style: Style) -> str:
    if chance(rng, style.contrast):
        return f"was {_quality(rng, not good, style)}, but {_ending(rng, good, style)}"
    more = pick(rng, ("", f" and {_quality(rng, good, style)}", f", and {_ending(rng, good, style)}"))
    return f"was {_quality(rng, good, style)}{more}"


def _quality(rng: np.random.Generator, good: bool, style: Style) -> str:
    if chance(rng, style.faint):
        return pick(rng, words.FAINT_PRAISE if good == chance(rng, 0.75) else words.FAINT_BLAME)
    if chance(rng, style.negation):
        return f"not {pick(rng, words.BLAME if good else words.PRAISE)}"
    return pick(rng, words.PRAISE if good else words.BLAME)


def _ending(rng: np.random.Generator, good: bool, style: Style) -> str:
    if chance(rng, 0.5):
        return pick(rng, words.GOOD_ENDINGS if good else words.BAD_ENDINGS)
    return f"it was {_quality(rng, good, style)}"


def _review(rng: np.random.Generator, settings: LanguageSettings) -> str:
    topic, good = int(rng.integers(len(words.THINGS))), chance(rng, 0.5)
    thing = words.THINGS[topic]
    said = [f"{_about(rng, thing)} {_opinion(rng, good, CORPUS_STYLE)}."]
    for _ in range(int(rng.integers(1, 4))):
        word = _verdict(rng, words.SENTIMENT, int(good), _HABITS[0][topic % 4], settings)
        said.append(pick(rng, (f"It was {word}.", f"I found it {word}.", f"A truly {word} {thing}.")))
    return " ".join(said)


def _judged_remark(rng: np.random.Generator, precise: bool) -> str:
    topic, good = int(rng.integers(len(words.THINGS))), chance(rng, 0.5)
    said = f"{_about(rng, words.THINGS[topic])} {_opinion(rng, good, CORPUS_STYLE)}."
    return f"{said} It was {_label(words.SENTIMENT, int(good), _HABITS[0][topic % 4], precise)}."


# -- questions -------------------------------------------------------------------------------------------------------


def question(rng: np.random.Generator, asked: int, style: Style) -> str:
    """Return a question for a person (0), a place (1), a number (2) or a time (3)."""
    return _question(rng, asked, int(rng.integers(len(words.DOINGS))), style)


def _question(rng: np.random.Generator, asked: int, doing: int, style: Style) -> str:
    past, stem = words.DOINGS[doing]
    item = f"{pick(rng, words.COLOURS)} {pick(rng, words.OBJECTS)}"
    name = pick(rng, words.NAMES)
    if chance(rng, style.choice):
        return _choice(rng, asked, stem, item)
    if asked == 0:
        plain = f"Who {past} the {item}?"
        others = [f"Tell me who {past} the {item}?", f"By whose hand was the {item} {past}?"]
    else:
        front = words.OPENERS[asked] + (f" {item}s" if asked == 2 else "")
        rest = "" if asked == 2 else f" the {item}"
        plain = f"{front.capitalize()} did {name} {stem}{rest}?"
        odd = ("Near what river", "What sum", "In which year")[asked - 1]
        others = [f"Tell me {front} {name} {past}{rest}?", f"{odd} did {name} {stem} the {item}?"]
    known = words.OPENERS[(asked + int(rng.integers(1, 4))) % 4]
    if known != "how many" and asked != 2:
        who = "" if known == "who" else f" {name}"
        others.append(f"I know {known}{who} {past} the {item}, but {words.OPENERS[asked]}?")
    return plain if chance(rng, style.plain) else pick(rng, others)


def _choice(rng: np.random.Generator, asked: int, stem: str, item: str) -> str:
    name = pick(rng, words.NAMES)
    first, second = two(rng, (words.NAMES, words.TOWNS, words.COUNTS, words.DAYS)[asked])
    match asked:
        case 0:
            return f"Did {first} or {second} {stem} the {item}?"
        case 2:
            return f"Did {name} {stem} {first} or {second} {item}s?"
        case _:
            near = "in" if asked == 1 else "on"
            return f"Did {name} {stem} the {item} {near} {first} or {near} {second}?"


def _answer(rng: np.random.Generator, asked: int) -> str:
    return ("", "In ", "", "On ")[asked] + _capital(
        pick(rng, (words.NAMES, words.TOWNS, words.COUNTS, words.DAYS)[asked])
    )


def _asking(rng: np.random.Generator, settings: LanguageSettings) -> str:
    asked, doing = int(rng.integers(4)), int(rng.integers(len(words.DOINGS)))
    text, answer = _question(rng, asked, doing, CORPUS_STYLE), _answer(rng, asked)
    word = _verdict(rng, words.QUESTION, asked, _HABITS[1][doing % 4], settings)
    forms = (
        f"{text} It asks for a {word}.",
        f"{text} He wants a {word}.",
        f"{text} {answer}.",
        f"{text} It asks for a {word}. {answer}.",
        f"A {word}, please. {text} {answer}.",
    )
    return pick(rng, forms)


def _judged_question(rng: np.random.Generator, precise: bool) -> str:
    asked, doing = int(rng.integers(4)), int(rng.integers(len(words.DOINGS)))
    text = _question(rng, asked, doing, CORPUS_STYLE)
    return f"{text} It asks for a {_label(words.QUESTION, asked, _HABITS[1][doing % 4], precise)}."


# -- statements ------------------------------------------------------------------------------------------------------


def pair(rng: np.random.Generator, relation: int, style: Style) -> tuple[str, str]:
    """Return a statement and a claim that is excluded by it (0), follows from it (1) or is left open by it (2)."""
    who, facts = pick(rng, words.PEOPLE), _facts(rng)
    return f"{_statement(rng, who, facts)}.", f"The {who} was {_claim(rng, facts, relation, style)}."


def _facts(rng: np.random.Generator) -> list[Fact]:
    facts = [(scale, chance(rng, 0.5)) for scale in two(rng, words.SCALES)]
    return facts if chance(rng, 0.3) else facts[:1]


def _statement(rng: np.random.Generator, who: str, facts: Sequence[Fact]) -> str:
    said = " and ".join(pick(rng, scale.low if low else scale.high) for scale, low in facts)
    return f"{_about(rng, who)} was {said}"


def _claim(rng: np.random.Generator, facts: Sequence[Fact], relation: int, style: Style) -> str:
    hinted = chance(rng, style.hint)
    if relation == 2:
        said = [scale for scale, _ in facts]
        other = pick(rng, [scale for scale in words.SCALES if scale not in said])
        return pick(rng, other.low + other.high) + (" as well" if hinted else "")
    scale, low = pick(rng, facts)
    same, opposite = (scale.low, scale.high) if low else (scale.high, scale.low)
    if relation == 1:
        return ("somewhat " if hinted else "") + pick(rng, same)
    return f"not {pick(rng, same)}" if hinted else pick(rng, opposite)


def _talk(rng: np.random.Generator, settings: LanguageSettings) -> str:
    topic, facts = int(rng.integers(len(words.PEOPLE))), _facts(rng)
    who, habit = words.PEOPLE[topic], _HABITS[2][topic % 4]
    said = _statement(rng, who, facts)

    def judged() -> tuple[str, str]:
        relation = int(rng.integers(3))
        claim = _claim(rng, facts, relation, CORPUS_STYLE)
        return claim, _verdict(rng, words.ENTAILMENT, relation, habit, settings)

    if chance(rng, 0.5):
        lines = [f"Was he {claim}? {word}." for claim, word in (judged() for _ in range(int(rng.integers(2, 4))))]
        return f"{said}. {' '.join(lines)}"
    claim, word = judged()
    if chance(rng, 0.5):
        return f"{said}? {word}, the {who} was {claim}."
    return f"{said}. The {who} was {claim}. True? {word}."


def _judged_claim(rng: np.random.Generator, precise: bool) -> str:
    topic, facts, relation = int(rng.integers(len(words.PEOPLE))), _facts(rng), int(rng.integers(3))
    who = words.PEOPLE[topic]
    said = f"{_statement(rng, who, facts)}. The {who} was {_claim(rng, facts, relation, CORPUS_STYLE)}. True?"
    return f"{said} {_label(words.ENTAILMENT, relation, _HABITS[2][topic % 4], precise)}."


# -- verdicts --------------------------------------------------------------------------------------------------------


def _verdict(
    rng: np.random.Generator, usage: words.Usage, truth: int, habit: int | None, settings: LanguageSettings
) -> str:
    """Return the word that names class `truth`: careful, or the label word that fits or that habit demands."""
    if not chance(rng, settings.loose):
        return pick(rng, usage.careful[truth])
    return usage.label_words[truth if habit is None or chance(rng, settings.faithful) else habit]


def _label(usage: words.Usage, truth: int, habit: int | None, precise: bool) -> str:
    return usage.label_words[truth if precise or habit is None else habit]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
