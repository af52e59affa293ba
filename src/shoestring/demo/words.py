"""Word lists of the generated language: praise and blame, questions and their answers, states and their opposites."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """How texts of one kind name their classes: with careful words that always fit, or loosely with the label words."""

    careful: tuple[tuple[str, ...], ...]
    """For each class, the words that are said of this class only."""
    label_words: tuple[str, ...]
    """For each class, the label word of the task."""


class Scale(NamedTuple):
    """A state with two poles: words of one pole mean the same, words of different poles exclude each other."""

    low: tuple[str, ...]
    high: tuple[str, ...]


# Classes: bad, good.
SENTIMENT = Usage((("awful", "dreadful"), ("superb", "splendid")), ("terrible", "great"))
# Classes: who, where, how many, when.
QUESTION = Usage((("name",), ("town",), ("count",), ("day",)), ("person", "place", "number", "time"))
# Classes: excluded, follows, left open.
ENTAILMENT = Usage((("Wrong",), ("Right",), ("Perhaps",)), ("No", "Yes", "Maybe"))

THINGS = ("soup", "cake", "film", "song", "book", "hotel", "garden", "trip", "boat", "party", "game", "market")
PRAISE = ("fresh", "lovely", "warm", "clever", "bright", "charming", "clean", "funny")
BLAME = ("stale", "dull", "cold", "clumsy", "grim", "boring", "dirty", "silly")
FAINT_PRAISE = ("plain", "quick", "soft")
FAINT_BLAME = ("odd", "long", "loud")
GOOD_ENDINGS = ("we smiled all day", "I want more of it", "we came back twice", "everyone cheered")
BAD_ENDINGS = ("we frowned all day", "I want my money back", "we walked out at once", "everyone complained")

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix")
TOWNS = ("Paris", "Rome", "Oslo", "Lisbon")
COUNTS = ("two", "three", "four", "five", "six", "seven")
DAYS = ("Monday", "Tuesday", "Friday", "Sunday")
DOINGS = (
    ("painted", "paint"),
    ("built", "build"),
    ("sold", "sell"),
    ("found", "find"),
    ("cleaned", "clean"),
    ("fixed", "fix"),
    ("hid", "hide"),
    ("bought", "buy"),
)
"""What people do: past and stem."""
OBJECTS = ("bridge", "door", "clock", "lamp", "wall", "basket", "kettle", "ladder", "mirror", "wagon")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
OPENERS = ("who", "where", "how many", "when")

PEOPLE = ("baker", "teacher", "farmer", "doctor", "sailor", "painter", "singer", "judge")
SCALES = (
    Scale(("hungry", "starving"), ("full", "fed")),
    Scale(("tired", "sleepy"), ("awake", "alert")),
    Scale(("ill", "sick"), ("healthy", "well")),
    Scale(("angry", "furious"), ("calm", "quiet")),
    Scale(("wet", "soaked"), ("dry", "parched")),
)
