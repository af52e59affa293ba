"""Rows in which nothing stands twice: tries of token sequences, laid out so that each token sees its ancestors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from shoestring.models.batch import Batch
    from shoestring.prompts.encoding import EncodedPrompt

IDS, POSITIONS, ENDS, READS, SOURCES = "tree_ids", "tree_positions", "tree_ends", "tree_reads", "tree_sources"


class Trie:
    """Token sequences, with every beginning that several of them have once.

    Nodes are numbered as they are added, so a node comes behind its parent.

    Attributes:
        tokens: the token of each node.
        parents: the node before each node; -1 where a sequence begins.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def add(self, tokens: Sequence[int], behind: int = -1) -> list[int]:
        """Return the nodes of a sequence that begins behind a node; those not there yet are added.

        >>> trie = Trie()
        >>> trie.add([5, 6, 7]), trie.add([5, 6, 8, 9]), trie.add([8], behind=1)
        ([0, 1, 2], [0, 1, 3, 4], [3])
        """
        found = []
        for token in tokens:
            node = self._children.setdefault((behind, token), len(self.tokens))
            if node == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(behind)
            found.append(node)
            behind = node
        return found

    def laid_out(self) -> Layout:
        """Return the nodes in one row, each directly behind its parent or behind the subtree of a sibling."""
        count = len(self.tokens)
        sizes = [1] * count
        for node in range(count - 1, -1, -1):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        places, depths, free = [0] * count, [0] * count, [0] * (count + 1)  # the last one is of the first tokens
        for node, parent in enumerate(self.parents):
            places[node] = free[parent]
            free[parent] += sizes[node]
            free[node] = places[node] + 1
            depths[node] = depths[parent] + 1 if parent >= 0 else 0
        return Layout(places, depths, sizes)


@dataclass(frozen=True)
class Layout:
    """Where the nodes of a trie stand in a row: a node's descendants fill the `sizes[node] - 1` places behind it."""

    places: list[int]
    depths: list[int]
    sizes: list[int]


@dataclass(frozen=True)
class Row:
    """Prompts with their candidates in one row of T tokens.

    Attributes:
        ids: token ids [T].
        positions: how many tokens each token stands behind [T].
        ends: the place behind each token's last descendant [T]: token i sees token j where j <= i < ends[j].
        reads: places whose outputs are read [R], each once.
        sources: of every scored token of every candidate of every prompt, the index in `reads` of the place that
            predicts it [M].
        targets: those tokens [M].
    """

    ids: list[int]
    positions: list[int]
    ends: list[int]
    reads: list[int]
    sources: list[int]
    targets: list[int]


def pack(prompts: Sequence[EncodedPrompt], behind: int = 0) -> Row:
    """Return the row of causal prompts without their first `behind` tokens, which they have in common.

    The last token of a candidate predicts nothing that is read, so it has no place in the row.
    """
    trie = Trie()
    asked, targets = [], []
    for prompt in prompts:
        last = trie.add(prompt.ids[behind:])[-1]
        for option, scored in zip(prompt.options, prompt.scored_lengths, strict=True):
            path = [last, *trie.add(option[:-1], last)]
            asked += path[len(path) - scored :]
            targets += option[len(option) - scored :]
    layout = trie.laid_out()
    places, count = layout.places, len(trie.tokens)
    ids, positions, ends = [0] * count, [0] * count, [0] * count
    for node, place in enumerate(places):
        ids[place], positions[place] = trie.tokens[node], behind + layout.depths[node]
        ends[place] = place + layout.sizes[node]
    reads = sorted({places[node] for node in asked})
    number = {place: index for index, place in enumerate(reads)}
    return Row(ids, positions, ends, reads, [number[places[node]] for node in asked], targets)


def in_line(rows: Sequence[Row]) -> Row:
    """Return rows one behind the other in one, each of which sees itself alone."""
    ids, positions, ends, reads, sources, targets = ([] for _ in range(6))
    for row in rows:
        sources += [len(reads) + source for source in row.sources]
        reads += [len(ids) + place for place in row.reads]
        ends += [len(ids) + end for end in row.ends]
        ids, positions, targets = ids + row.ids, positions + row.positions, targets + row.targets
    return Row(ids, positions, ends, reads, sources, targets)


def stack(rows: Sequence[Row], pad_id: int) -> Batch:
    """Return rows as tensors: ids, positions and ends [N, T], reads [N, R]; what pads a row sees itself alone."""
    length, reads = max(len(row.ids) for row in rows), max(len(row.reads) for row in rows)
    own = list(range(1, length + 1))
    return {
        IDS: torch.tensor([[*row.ids, *[pad_id] * (length - len(row.ids))] for row in rows]),
        POSITIONS: torch.tensor([[*row.positions, *[0] * (length - len(row.ids))] for row in rows]),
        ENDS: torch.tensor([[*row.ends, *own[len(row.ids) :]] for row in rows]),
        READS: torch.tensor([[*row.reads, *[0] * (reads - len(row.reads))] for row in rows]),
    }
