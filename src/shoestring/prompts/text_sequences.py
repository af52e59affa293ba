"""Token ids of whole texts to prompts and candidates: counted, cut, split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.errors import DataError, ModelError
from shoestring.prompts.text_tokens import Ids, Split, common, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shoestring.prompts.text_rendering import Written
    from shoestring.prompts.text_room import TextRoom
    from shoestring.prompts.text_tokens import TextTokens
    from shoestring.tasks.wording import TextForm


@dataclass(frozen=True, slots=True)
class Made:
    """A question as the model reads it.

    Attributes:
        split: what all candidates share, and the candidates.
        cut: tokens cut off, of the longest candidate.
        joined: whether the tokenizer joins the end of the question with an answer.
        bare: whether no token of the demonstrations is left.
    """

    split: Split
    cut: int = 0
    joined: bool = False
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, for messages: the example's uid, and how many demonstrations stand in front."""

    uid: str
    demonstrations: int = 0


class Sequences:
    """Makes prompts and candidates of token ids, for one text form and one tokenizer.

    Args:
        form: the text form.
        tokens: the tokenizer.
        room: the limit.
        writes: whether answers are to be written, rather than chosen among candidates.
    """

    def __init__(self, form: TextForm, tokens: TextTokens, room: TextRoom, *, writes: bool) -> None:
        self.form, self.tokens, self.room, self.writes = form, tokens, room, writes
        self._end: Ids = (tokens.end,) if form.end and not tokens.closed else ()

    def texts(self, written: Written) -> Iterator[str]:
        """Yield every text whose tokens are needed."""
        if self.tokens.closed:
            yield from (written.prompt, written.asked, *self.targets(written))
            return
        if self.writes:
            yield written.asked
        yield from (written.prompt, *written.whole, *written.read)

    def targets(self, written: Written) -> tuple[str, ...]:
        """Return the candidates as a decoder writes them: without white space at their ends, if the form strips."""
        return tuple(text.strip() if self.form.strip else text for text in written.answers)

    def candidates(self, written: Written, ids: Mapping[str, Ids], asked: Asked) -> Made:
        """Return a question with its candidates.

        Every sequence is cut to the limit by itself, as published: longer candidates leave less of the question.

        Differs: where the tokenizer begins inputs with no special token, the question of all candidates is cut alike,
            so that they share a beginning; and an answer behind an empty question stands behind the begin token, where
            MeZO scores it without its first token.

        Raises:
            DataError: if a candidate has no token, or two have the same.
            PromptTooLongError: if it does not fit and may not be cut.
            ModelError: if there is nothing in front of an answer, and no token to put there.
        """
        if self.tokens.closed:
            return self._for_decoder(written, ids, asked)
        whole = [ids[text] + self._end for text in written.read]
        self._distinct(whole, written, asked)
        counts, joined = self._counts(written, ids, whole, asked)
        alone = max(len(ids[text] + self._end) for text in written.whole)
        self._check(max(map(len, whole)), alone, asked)
        kept = self._cut(whole, counts, asked)
        cut = max(len(row) - len(left) for row, left in zip(whole, kept, strict=True))
        return Made(self._begun(split(kept, counts)), cut, joined, self._bare(max(map(len, kept)), alone, asked))

    def question(self, written: Written, ids: Mapping[str, Ids], asked: Asked) -> tuple[Ids, int]:
        """Return what is read before an answer that is to be written, and the number of tokens cut off.

        Raises:
            PromptTooLongError: if it does not fit and may not be cut.
        """
        whole = ids[written.asked]
        self._check(len(whole), len(ids[written.prompt]), asked)
        kept = self.tokens.cut(whole, self.room.limit, tail=self.room.truncate == "tail")
        return kept or self._begin(), len(whole) - len(kept)

    def _for_decoder(self, written: Written, ids: Mapping[str, Ids], asked: Asked) -> Made:
        source, cut = self.question(written, ids, asked)
        special = len(self.tokens.opening) + len(self.tokens.closing)
        targets: list[Ids] = []
        for text in self.targets(written):
            if len(ids[text]) <= special:
                raise self._no_token(text, asked)
            targets.append(ids[text] if self.tokens.closing else (*ids[text], self.tokens.end))
        # The last token predicts nothing; in front of the first are a start token and what models that begin their
        # inputs with a token begin every answer with.
        self.room.check_answer(asked.uid, max(map(len, targets)) + bool(self.tokens.opening))
        self._distinct(targets, written, asked)
        return Made(
            Split(source, tuple(targets), ()), cut, bare=self._bare(len(source), len(ids[written.prompt]), asked)
        )

    def _counts(
        self, written: Written, ids: Mapping[str, Ids], whole: Sequence[Ids], asked: Asked
    ) -> tuple[list[int], bool]:
        """Return the number of tokens of each candidate, and whether any is joined with the question.

        Where the form strips, these are as many as it adds to the question, as published; else those behind what it
        shares with the question.
        """
        prompt = ids[written.prompt]
        counts, joined = [], False
        for text, row, answer in zip(written.whole, whole, written.answers, strict=True):
            shared = common((prompt, ids[text]))
            joined = joined or shared < len(prompt)
            count = len(ids[text]) - (len(prompt) if self.form.strip else shared)
            # White space in front of everything is not read, and so not scored either.
            count = min(count, len(row) - len(self._end) - len(self.tokens.opening))
            if count < 1:
                raise self._no_token(answer, asked)
            counts.append(count + len(self._end))
        return counts, joined

    def _cut(self, whole: Sequence[Ids], counts: Sequence[int], asked: Asked) -> list[Ids]:
        limit, first = self.room.limit, len(self.tokens.opening)
        excess = max(map(len, whole)) - limit
        if excess <= 0:
            return list(whole)
        kept = [self.tokens.cut(row, limit) if first else row[excess:] for row in whole]
        for row, count in zip(kept, counts, strict=True):
            if len(row) - count < max(1, first):
                raise self.room.no_room(asked.uid, max(counts))
        return kept

    def _check(self, length: int, alone: int, asked: Asked) -> None:
        if length > self.room.limit and self.room.truncate == "error":
            raise self.room.too_long(asked.uid, length, alone, asked.demonstrations)

    def _bare(self, kept: int, alone: int, asked: Asked) -> bool:
        return asked.demonstrations > 0 and kept <= alone

    def _begun(self, found: Split) -> Split:
        return found if found.ids else Split(self._begin(), found.options, found.scored)

    def _begin(self) -> Ids:
        """Return the token that stands in front of an answer where nothing else does."""
        found = self.tokens.begin
        if found is None:
            raise ModelError(
                f"{self.tokens.codec.name} has no begin token, and the first token of an answer is predicted from what "
                "stands in front of it; give prompt.begin"
            )
        return (found,)

    def _distinct(self, rows: Sequence[Ids], written: Written, asked: Asked) -> None:
        first: dict[Ids, int] = {}
        for number, row in enumerate(rows):
            other = first.setdefault(row, number)
            if other != number:
                one, two = written.answers[other], written.answers[number]
                raise DataError(
                    self._where(asked),
                    f"its answers {one!r} and {two!r} have the same tokens in {self.tokens.codec.name}",
                )

    def _no_token(self, answer: str, asked: Asked) -> DataError:
        return DataError(
            self._where(asked), f"the answer {answer!r} adds no token to the prompt in {self.tokens.codec.name}"
        )

    def _where(self, asked: Asked) -> str:
        return f"task {self.room.task}, example {asked.uid}"
