"""The LM-BFF template language: a template's text in, typed pieces out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from shoestring.errors import TemplateError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

Form = Literal["masked", "causal"]
SpecialName = Literal["cls", "bos", "eos", "mask", "sep", "sep+"]
Case = Literal["", "lower", "upper"]

SPECIALS: dict[str, SpecialName] = {
    "cls": "cls",
    "bos": "bos",
    "eos": "eos",
    "mask": "mask",
    "sep": "sep",
    "sep+": "sep+",
}
# Name of a sentence token -> (a space in front, case of the first character, last character dropped).
SENTENCES: dict[str, tuple[bool, Case, bool]] = {
    "sent": (False, "", False),
    "sent-": (False, "", True),
    "sentl": (False, "lower", False),
    "sentl-": (False, "lower", True),
    "sentu": (False, "upper", False),
    "+sent": (True, "", False),
    "+sentl": (True, "lower", False),
    "+sentu": (True, "upper", False),
    "+sentu-": (True, "upper", True),
}
_INDEXED = (*SENTENCES, "label", "labelx")
_TOKEN = re.compile(rf"({'|'.join(map(re.escape, _INDEXED))})_([0-9]+)")
# What the published splitter takes for a token even where the author meant text.
_LOOKS_LIKE_TOKEN = re.compile(rf"(?:{'|'.join(map(re.escape, SPECIALS))})$|(?:{'|'.join(map(re.escape, _INDEXED))})_")


@dataclass(frozen=True, slots=True)
class Special:
    """A special token. After `sep+`, the segment id is one higher; the separator itself keeps the old one."""

    name: SpecialName


@dataclass(frozen=True, slots=True)
class Sentence:
    """Sentence `index`: first the case of its first character changes, then its last one goes, then a space is put."""

    index: int
    space: bool = False
    case: Case = ""
    drop_last: bool = False

    def render(self, sentences: Sequence[str]) -> str:
        """Return the text this piece stands for.

        >>> Sentence(0, space=True, case="lower").render(["He moved."])
        ' he moved.'
        """
        text = sentences[self.index]
        if self.case == "lower":
            text = text[:1].lower() + text[1:]
        elif self.case == "upper":
            text = text[:1].upper() + text[1:]
        text = text[:-1] if self.drop_last else text
        return f" {text}" if self.space else text


@dataclass(frozen=True, slots=True)
class LabelWord:
    """The label word of label id `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class DemonstrationWord:
    """The label word of the `index`-th demonstration's label (LM-BFF: `labelx`)."""

    index: int


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text; its `_` are already spaces."""

    text: str


Piece: TypeAlias = Special | Sentence | LabelWord | DemonstrationWord | Text
Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a template may refer to, and what it must hold.

    Attributes:
        form: `masked` needs exactly one `*mask*`; `causal` none, and must not end in a space.
        sentences: number of sentences of one example, S.
        labels: number of labels, C.
        demonstrations: number of further examples; demonstration j has the sentences S + S*j ... S + S*j + S - 1.
    """

    form: Form
    sentences: int
    labels: int
    demonstrations: int = 0


def parse(template: str, shape: Shape, where: str = "template") -> Pieces:
    """Parse a template of the LM-BFF language.

    Tokens stand between stars, text outside of them; `_` in text is a space.

    >>> parse("*cls*Is_it*mask*?", Shape("masked", sentences=1, labels=2))
    (Special(name='cls'), Text(text='Is it'), Special(name='mask'), Text(text='?'))

    Args:
        template: the template's text.
        shape: what it may refer to.
        where: where it stands, for messages.

    Raises:
        TemplateError: if it is unknown or ambiguous to any reader; shows the template and points at the piece.

    Source: princeton-nlp/LM-BFF src/dataset.py, `tokenize_multipart_input`, with the tokens MeZO added.

    Differs: the published reader splits at every star and forgets which piece stood between two stars, so text such as
        `mask` or `sent_0` outside of stars is taken for a token, and text that begins with `sent` or ` sent` makes it
        fail. Here the first is refused and the second is text.
    """
    reader = _Reader(template, shape, where)
    pieces = reader.read()
    reader.check(pieces)
    return pieces


class _Reader:
    """Reads one template and knows where each piece stands, so that messages can point at it."""

    def __init__(self, template: str, shape: Shape, where: str) -> None:
        self.template, self.shape, self.where = template, shape, where
        self.places: list[tuple[int, int]] = []

    def read(self) -> Pieces:
        parts = self.template.split("*")
        balanced = len(parts) % 2 == 1
        pieces: list[Piece] = []
        start = 0
        for number, part in enumerate(parts):
            end = start + len(part)
            if number % 2:
                self.places.append((start - 1, min(end + 1, len(self.template))))
                pieces.append(self._token(part, balanced))
            elif part:
                self.places.append((start, end))
                pieces.append(self._text(part, balanced))
            start = end + 1
        if not balanced:
            self._fail(f"its {len(parts) - 1} stars do not pair up")
        return tuple(pieces)

    def check(self, pieces: Pieces) -> None:
        masks = [number for number, piece in enumerate(pieces) if piece == Special("mask")]
        if self.shape.form == "masked" and not masks:
            self._fail("it has no `*mask*`, so a masked model has nowhere to answer", at=None)
        if self.shape.form == "masked" and len(masks) > 1:
            self._fail(f"it has {len(masks)} masks; exactly one is read", at=masks[1])
        if self.shape.form == "causal" and masks:
            self._fail("a causal template ends where the answer begins and has no `*mask*`", at=masks[0])
        last = pieces[-1] if pieces else None
        if last is None:
            self._fail("it is empty", at=None)
        if self.shape.form == "causal" and isinstance(last, Text) and last.text.endswith(" "):
            self._fail(
                "it ends in a space, which splits the answer's first token; the space belongs to `answer`", at=-1
            )

    def _token(self, name: str, balanced: bool) -> Piece:
        if name in SPECIALS:
            return Special(SPECIALS[name])
        match = _TOKEN.fullmatch(name)
        if match is None:
            stars = "" if balanced else f" (its {self.template.count('*')} stars do not pair up)"
            self._fail(f"there is no token `*{name}*`{stars}{_nearest(name)}")
        kind, index = match[1], int(match[2])
        shape = self.shape
        if kind == "label":
            self._within(name, index, shape.labels, "label")
            return LabelWord(index)
        if kind == "labelx":
            self._within(name, index, shape.demonstrations, "demonstration")
            return DemonstrationWord(index)
        self._within(name, index, shape.sentences * (1 + shape.demonstrations), "sentence")
        return Sentence(index, *SENTENCES[kind])

    def _text(self, part: str, balanced: bool) -> Text:
        if _LOOKS_LIKE_TOKEN.match(part):
            stars = f"put stars around it: `*{part}*`" if balanced else "a star is missing beside it"
            self._fail(f"`{part}` stands outside of stars but reads like a token; reword it, or {stars}")
        text = part.replace("_", " ")
        if text == " ":
            self._fail(
                "a lone space is not a token of its own; put it into the text beside it, or write the `+` form of the "
                "sentence after it, such as `*+sent_1*`"
            )
        return Text(text)

    def _within(self, name: str, index: int, count: int, what: str) -> None:
        if index >= count:
            have = f"is 1 {what}" if count == 1 else f"are {count} {what}s"
            span = f" (0 to {count - 1})" if count else ""
            self._fail(f"`*{name}*` is out of range: there {have}{span}")

    def _fail(self, what: str, at: int | None = -1) -> NoReturn:
        # One character per character of the template, so that the caret stands below its piece.
        shown = "".join("⏎" if char == "\n" else char if char.isprintable() else "�" for char in self.template)
        pointer = ""
        if at is not None and self.places:
            start, end = self.places[at]
            pointer = "\n    " + " " * start + "^" * max(1, end - start)
        raise TemplateError(f"{self.where}: {what}\n    {shown}{pointer}")


def _nearest(name: str) -> str:
    stem, underscore, index = name.rpartition("_")
    if underscore and index.isdigit():
        return suggest(f"*{stem}_{index}*", [f"*{kind}_{index}*" for kind in _INDEXED], shown=20)
    names = [*(f"*{special}*" for special in SPECIALS), *(f"*{kind}_0*" for kind in _INDEXED)]
    return suggest(f"*{name}*", names, shown=20)
