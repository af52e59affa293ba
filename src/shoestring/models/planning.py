"""In which forward passes many inputs are scored: what they share is found by sorting them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from shoestring.models.batch import batches
from shoestring.models.packing import Trie

if TYPE_CHECKING:
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.prompts.label_words import Options

# Sharing has to save this share of the tokens: rows of a trie take a mask, which plain causal attention does without.
_WORTH = 0.2
# A shorter piece is not worth a forward pass of its own; the rows behind it repeat it.
_PIECE = 16
# What an output that is read weighs, in tokens: its logits take as much memory as a token in a few layers.
_READ = 4
# Attention in a row costs by its square: beyond about the model's width it is felt, while matrix products of fewer
# tokens are slow.
_SHORTEST, _LONGEST = 256, 4096


@dataclass(frozen=True)
class Limits:
    """What a forward pass may hold.

    Attributes:
        inputs: most inputs.
        tokens: most tokens, padding included, and `_READ` for each output that is read.
        row: most tokens of a row in which inputs share beginnings.
        shares: whether inputs may share beginnings.
        keeps: whether a beginning may be kept for the rows behind it.
    """

    inputs: int
    tokens: int
    row: int
    shares: bool = False
    keeps: bool = False


@dataclass(frozen=True)
class Keep:
    """Compute tokens [begin, end) of an input behind what is kept, and keep them too."""

    input: int
    begin: int
    end: int


@dataclass(frozen=True)
class Drop:
    """Drop what was kept last."""


@dataclass(frozen=True)
class Pack:
    """Score inputs, in rows in which what they share stands once, without the `behind` tokens that are kept."""

    rows: tuple[tuple[int, ...], ...]
    behind: int
    tokens: int


@dataclass(frozen=True)
class Plain:
    """Score inputs, a row or more for each."""

    inputs: tuple[int, ...]
    tokens: int


Step = Keep | Drop | Pack | Plain


def row_of(width: int) -> int:
    """Return the most tokens of a packed row, for a model of some width (hidden size)."""
    return min(max(width, _SHORTEST), _LONGEST)


def size_of(prompt: EncodedPrompt, inner: int | None) -> int:
    """Return what a prompt takes in plain rows, in tokens: alone, with the `inner` tokens of its candidates behind it.

    Without those (None), as where a prompt is repeated for each of its candidates.
    """
    if inner is not None:
        return len(prompt.ids) + inner + _READ * (1 + inner)
    rows, longest = len(prompt.options) or 1, max(map(len, prompt.options), default=1)
    if longest == 1:
        rows = 1
    return rows * (len(prompt.ids) + longest - 1 + _READ * longest)


def plan(
    prompts: Sequence[EncodedPrompt], limits: Limits, sizes: Sequence[int], alone: Collection[int] = ()
) -> Iterator[Step]:
    """Yield what is to be done, in order, so that every input is scored once.

    Sorted lexicographically, inputs with a common beginning are neighbours, and the tokens that a row of neighbours
    takes follow from the beginnings that each has in common with the one before it. Groups that fit into a row are
    packed; of larger ones what all have in common is kept, and they are split where they part. What would save little
    comes last, in plain batches.

    Args:
        prompts: causal prompts, no two the same.
        limits: what a forward pass may hold.
        sizes: what each input takes in plain rows: `size_of`.
        alone: numbers of inputs that share nothing.
    """
    left = list(range(len(prompts)))
    among = [index for index in left if index not in alone] if limits.shares else []
    if len(among) > 1:
        packing = _Packing(prompts, limits, among)
        yield from packing.steps()
        left = sorted({*left} - {*among}) + packing.left
    for found in batches([prompts[index] for index in left], limits.inputs, limits.tokens, [sizes[i] for i in left]):
        inputs = tuple(left[index] for index in found)
        yield Plain(inputs, len(inputs) * max(sizes[index] for index in inputs))


def inner_tokens(options: Options) -> int:
    """Return how many tokens a prompt's candidates take in a row behind it: the last of each has no place in it.

    >>> inner_tokens(((7,), (8,))), inner_tokens(((7, 8, 9), (7, 8, 3), (4, 5)))
    (0, 3)
    """
    trie = Trie()
    for option in options:
        trie.add(option[:-1])
    return len(trie.tokens)


@dataclass(frozen=True)
class _Group:
    """Neighbours [low, high), the first `behind` tokens of which are kept."""

    low: int
    high: int
    behind: int


class _Packing:
    """The steps of inputs that may share beginnings; `left` are those that are better scored plainly."""

    def __init__(self, prompts: Sequence[EncodedPrompt], limits: Limits, among: Sequence[int]) -> None:
        self._limits = limits
        arrays = {index: np.array(prompts[index].ids, dtype=">u4") for index in among}
        # Big-endian numbers sort like their bytes.
        self._order = sorted(among, key=lambda index: (arrays[index].tobytes(), index))
        inner: dict[Options, int] = {}
        for index in among:
            if (options := prompts[index].options) not in inner:
                inner[options] = inner_tokens(options)
        ordered = [arrays[index] for index in self._order]
        self._lengths = np.array([len(ids) for ids in ordered])
        self._inner = np.array([inner[prompts[index].options] for index in self._order])
        self._common = np.array([0, *(_common(*pair) for pair in pairwise(ordered))])
        self._alone = _summed(self._lengths + self._inner)
        # What each input adds to a row that has the one before it.
        self._added = _summed(self._lengths - self._common + self._inner)
        self._reads = _summed(1 + self._inner)
        self.left: list[int] = []

    def steps(self) -> Iterator[Step]:
        """Yield the steps, those without anything kept before them last."""
        bare: list[_Group] = []
        stack: list[_Group | Drop] = [_Group(0, len(self._order), 0)]
        while stack:
            item = stack.pop()
            if isinstance(item, Drop):
                yield item
            elif self._fits(item) and (item.behind or self._pays(item)):
                if item.behind:
                    yield self._packed([item])
                else:
                    bare.append(item)
            elif item.high - item.low == 1:
                if item.behind:
                    yield self._packed([item])
                else:
                    self.left.append(self._order[item.low])
            else:
                least = int(self._common[item.low + 1 : item.high].min())
                behind = self._kept(item, least)
                if behind > item.behind:
                    yield Keep(self._order[item.low], item.behind, behind)
                    stack.append(Drop())
                stack += reversed(list(self._split(item, least, behind)))
        yield from self._together(bare)

    def _kept(self, group: _Group, least: int) -> int:
        """Return how many tokens to keep for a group whose members have `least` in common."""
        # The last token of an input is read, so it stays in the row.
        end = min(least, int(self._lengths[group.low : group.high].min()) - 1)
        if not self._limits.keeps or end - group.behind < _PIECE:
            return group.behind
        if group.behind:
            return end
        saved = end * (group.high - group.low - 1)
        return end if saved >= _WORTH * self._tokens_alone(group) else 0

    def _split(self, group: _Group, least: int, behind: int) -> Iterator[_Group]:
        """Yield the parts of a group, split where neighbours have no more than `least` in common.

        Behind something that is kept, parts are joined as long as they fit into a row.
        """
        cuts = np.flatnonzero(self._common[group.low + 1 : group.high] == least) + group.low + 1
        low = group.low
        parts = []
        for high in (*cuts.tolist(), group.high):
            parts.append(_Group(low, high, behind))
            low = high
        yield from self._joined(parts) if behind else parts

    def _joined(self, parts: Sequence[_Group]) -> Iterator[_Group]:
        current: _Group | None = None
        for part in parts:
            joined = part if current is None else _Group(current.low, part.high, part.behind)
            if current is not None and not self._fits(joined):
                yield current
                joined = part
            current = joined
        if current is not None:
            yield current

    def _together(self, groups: Sequence[_Group]) -> Iterator[Step]:
        """Yield groups that nothing is kept for, joined into rows, and rows of similar length into forward passes."""
        rows: list[list[_Group]] = []
        room = inputs = 0
        for group in groups:
            tokens, count = self._tokens(group), group.high - group.low
            if not rows or tokens > room or inputs + count > self._limits.inputs:
                rows.append([])
                room, inputs = self._limits.row, 0
            rows[-1].append(group)
            room, inputs = room - tokens, inputs + count
        rows.sort(key=self._length, reverse=True)
        start = 0
        while start < len(rows):
            end, longest, reads, inputs = start, self._length(rows[start]), 0, 0
            while end < len(rows):
                reads = max(reads, sum(self._read(group) for group in rows[end]))
                inputs += sum(group.high - group.low for group in rows[end])
                full = (end + 1 - start) * (longest + _READ * reads) > self._limits.tokens
                if end > start and (full or inputs > self._limits.inputs):
                    break
                end += 1
            yield self._packed(*rows[start:end])
            start = end

    def _packed(self, *rows: Sequence[_Group]) -> Pack:
        inputs = tuple(tuple(self._order[n] for group in row for n in range(group.low, group.high)) for row in rows)
        longest = max(map(self._length, rows))
        return Pack(inputs, rows[0][0].behind, len(rows) * longest)

    def _length(self, row: Sequence[_Group]) -> int:
        return sum(map(self._tokens, row))

    def _fits(self, group: _Group) -> bool:
        tokens = self._tokens(group)
        limits = self._limits
        heavy = tokens + _READ * self._read(group) > limits.tokens
        return tokens <= limits.row and not heavy and group.high - group.low <= limits.inputs

    def _pays(self, group: _Group) -> bool:
        alone = self._tokens_alone(group)
        return alone - self._tokens(group) >= _WORTH * alone

    def _tokens(self, group: _Group) -> int:
        """Return the tokens of a row of a group."""
        first = int(self._lengths[group.low] + self._inner[group.low]) - group.behind
        return first + int(self._added[group.high] - self._added[group.low + 1])

    def _tokens_alone(self, group: _Group) -> int:
        return int(self._alone[group.high] - self._alone[group.low])

    def _read(self, group: _Group) -> int:
        return int(self._reads[group.high] - self._reads[group.low])


def _summed(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(numbers)])


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many tokens two inputs begin with alike."""
    length = min(len(one), len(other))
    apart = one[:length] != other[:length]
    return int(apart.argmax()) if apart.any() else length
