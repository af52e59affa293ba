from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from shoestring.models.packing import ENDS, IDS, POSITIONS, READS, Row, Trie, pack, stack
from shoestring.models.trees import sees
from shoestring.prompts.encoding import EncodedPrompt

Sequences = list[tuple[int, ...]]
few = st.integers(5, 7)
sequences = st.lists(st.lists(few, min_size=1, max_size=6).map(tuple), min_size=1, max_size=6)


def prompt(ids: tuple[int, ...], options: Sequences, scored: tuple[int, ...] = ()) -> EncodedPrompt:
    return EncodedPrompt("train:0", ids, (0,) * len(ids), len(ids) - 1, tuple(options), 0, 0, scored=scored)


prompts = st.lists(
    st.builds(prompt, st.lists(few, min_size=1, max_size=6).map(tuple), sequences), min_size=1, max_size=4
)


def beginnings(tokens: tuple[int, ...]) -> set[tuple[int, ...]]:
    return {tokens[:end] for end in range(1, len(tokens) + 1)}


def seen_by(row: Row, place: int) -> tuple[int, ...]:
    """What stands before and at a place, as the mask has it."""
    seen = sees(torch.tensor([row.ends]))[0, place]
    return tuple(token for token, there in zip(row.ids, seen.tolist(), strict=True) if there)


@given(prompts)
def test_a_row_has_every_beginning_once_and_each_token_sees_its_own(prompts: list[EncodedPrompt]) -> None:
    row = pack(prompts)
    wanted: set[tuple[int, ...]] = set()
    for one in prompts:
        for option in one.options:
            wanted |= beginnings((*one.ids, *option[:-1]))
    found = [seen_by(row, place) for place in range(len(row.ids))]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert row.positions == [len(tokens) - 1 for tokens in found]


@given(prompts)
def test_every_candidate_token_is_read_where_it_is_predicted_and_every_place_once(prompts: list[EncodedPrompt]) -> None:
    row = pack(prompts)
    asked = [
        ((*one.ids, *option[:number]), token)
        for one in prompts
        for option in one.options
        for number, token in enumerate(option)
    ]
    found = [(seen_by(row, row.reads[source]), token) for source, token in zip(row.sources, row.targets, strict=True)]
    assert found == asked
    assert len(set(row.reads)) == len(row.reads)
    assert set(row.sources) == set(range(len(row.reads)))


@given(prompts)
def test_what_stands_before_a_row_is_left_out_of_it_and_counted_in_positions(prompts: list[EncodedPrompt]) -> None:
    begun = [prompt((8, 9, *one.ids), list(one.options)) for one in prompts]
    row, plain = pack(begun, 2), pack(prompts)
    assert row.ids == plain.ids
    assert row.positions == [place + 2 for place in plain.positions]
    assert (row.ends, row.reads, row.targets) == (plain.ends, plain.reads, plain.targets)


def test_only_scored_tokens_are_read() -> None:
    row = pack([prompt((5,), [(6, 7, 8), (9, 4)], scored=(1, 2))])
    assert row.ids == [5, 6, 7, 9]
    assert [(row.ids[row.reads[source]], token) for source, token in zip(row.sources, row.targets, strict=True)] == [
        (7, 8),
        (5, 9),
        (9, 4),
    ]


def test_one_token_candidates_add_nothing_to_a_row() -> None:
    assert pack([prompt((5, 6), [(7,), (8,)])]).ids == [5, 6]


def test_rows_are_padded_with_tokens_that_see_and_are_seen_by_none_but_themselves() -> None:
    batch = stack([pack([prompt((5,), [(6, 7), (8, 9)])]), pack([prompt((5,), [(6,)])])], pad_id=1)
    assert batch[IDS].tolist() == [[5, 6, 8], [5, 1, 1]]
    assert batch[POSITIONS].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert batch[READS].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert sees(batch[ENDS]).int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]


def test_tokens_before_a_row_are_seen_by_all_of_it() -> None:
    ends = torch.tensor([[2, 2]])
    assert sees(ends, 2).int().tolist() == [[[1, 1, 1, 0], [1, 1, 1, 1]]]


def test_a_trie_finds_what_it_has() -> None:
    trie = Trie()
    assert trie.add((5, 6)) == trie.add((5, 6)) == [0, 1]
    assert (trie.tokens, trie.parents) == ([5, 6], [-1, 0])
