from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from shoestring.models.batch import batches, collate
from shoestring.prompts.encoding import EncodedPrompt


def prompt(length: int, label: float = 0, options: tuple[tuple[int, ...], ...] = ((7,), (8, 9))) -> EncodedPrompt:
    return EncodedPrompt("train:0", tuple(range(10, 10 + length)), (1,) * length, length - 1, options, label, 0)


def test_prompts_are_padded_on_the_right() -> None:
    batch = collate([prompt(2, 1), prompt(3)], pad_id=5)
    assert batch["input_ids"].tolist() == [[10, 11, 5], [10, 11, 12]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["position"].tolist() == [1, 2]
    assert batch["labels"].tolist() == [1, 0]


def test_options_are_padded_to_the_longest_and_masked() -> None:
    batch = collate([prompt(2), prompt(2, options=((3,), (4,)))], pad_id=5)
    assert batch["option_ids"].tolist() == [[[7, 5], [8, 9]], [[3, 5], [4, 5]]]
    assert batch["option_mask"].tolist() == [[[1, 0], [1, 1]], [[1, 0], [1, 0]]]


def test_values_of_regression_are_floats_and_labels_whole_numbers() -> None:
    assert collate([prompt(2, 2.5)], pad_id=5)["labels"].dtype == torch.float32
    assert collate([prompt(2, 2)], pad_id=5)["labels"].dtype == torch.int64


def test_inputs_of_a_head_have_neither_position_nor_options() -> None:
    bare = EncodedPrompt("train:0", (10, 11), (0, 0), None, (), 1, 0)
    assert set(collate([bare], pad_id=5)) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 9))
def test_batches_hold_every_prompt_once_with_similar_lengths_together(lengths: list[int], size: int) -> None:
    prompts = [prompt(length) for length in lengths]
    found = list(batches(prompts, size))
    assert sorted(index for indices in found for index in indices) == list(range(len(lengths)))
    assert all(len(indices) == size for indices in found[:-1])
    in_order = [lengths[index] for indices in found for index in indices]
    assert in_order == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 9), st.integers(1, 80))
def test_batches_hold_no_more_tokens_than_they_may_padding_included(lengths: list[int], size: int, tokens: int) -> None:
    found = list(batches([prompt(length) for length in lengths], size, tokens))
    assert sorted(index for indices in found for index in indices) == list(range(len(lengths)))
    for indices in found:
        assert len(indices) <= size
        assert len(indices) == 1 or len(indices) * max(lengths[index] for index in indices) <= tokens


def test_a_batch_with_a_good_part_of_its_tokens_ends_before_much_of_it_would_be_padding() -> None:
    lengths = [20, 19, 18, 5, 5, 5, 4]
    prompts = [prompt(length) for length in lengths]
    assert list(batches(prompts, 9)) == list(batches(prompts, 9, 2000)) == [[0, 1, 2, 3, 4, 5, 6]]
    assert list(batches(prompts, 9, 400)) == [[0, 1, 2], [3, 4, 5, 6]]


def test_lengths_may_be_others_than_those_of_the_ids() -> None:
    assert list(batches([prompt(1), prompt(2), prompt(3)], 2, 9, [9, 4, 4])) == [[0], [1, 2]]
