from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.models.packing import pack
from shoestring.models.planning import Drop, Keep, Limits, Pack, Plain, Step, inner_tokens, plan, row_of, size_of
from shoestring.prompts.encoding import EncodedPrompt

ONE, LONG = ((7,), (8,)), ((7, 8, 9), (7, 8), (6, 6))
DEMOS = tuple(range(100, 160))


def prompt(ids: tuple[int, ...], options: tuple[tuple[int, ...], ...] = ONE) -> EncodedPrompt:
    return EncodedPrompt("train:0", ids, (0,) * len(ids), len(ids) - 1, options, 0, 0)


def steps(prompts: list[EncodedPrompt], limits: Limits) -> list[Step]:
    sizes = [size_of(one, inner_tokens(one.options)) for one in prompts]
    return list(plan(prompts, limits, sizes))


heads = st.sampled_from([(), (1,), DEMOS[:20], DEMOS[:30], DEMOS])
tails = st.lists(st.integers(5, 7), min_size=1, max_size=12).map(tuple)
ids = st.builds(lambda head, tail: (*head, *tail), heads, tails)
kinds = st.sampled_from([ONE, LONG])
limits_of = st.builds(
    Limits, st.integers(1, 6), st.integers(1, 200), st.integers(1, 90), st.booleans(), keeps=st.booleans()
)


@given(st.sets(st.tuples(ids, kinds), max_size=14), limits_of)
def test_every_input_is_scored_once_behind_what_it_really_begins_with(
    pairs: set[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]], limits: Limits
) -> None:
    prompts = [prompt(*pair) for pair in sorted(pairs)]
    kept: list[tuple[int, ...]] = [()]
    seen: list[int] = []
    for step in steps(prompts, limits):
        if isinstance(step, Keep):
            assert limits.keeps
            assert step.begin == len(kept[-1])
            kept.append(prompts[step.input].ids[: step.end])
            assert kept[-1][: step.begin] == kept[-2]
        elif isinstance(step, Drop):
            kept.pop()
        elif isinstance(step, Plain):
            seen += step.inputs
            assert len(step.inputs) <= limits.inputs
            assert len(step.inputs) == 1 or step.tokens <= limits.tokens
        else:
            assert limits.shares
            assert step.behind == len(kept[-1])
            for row in step.rows:
                seen += row
                for number in row:
                    assert prompts[number].ids[: step.behind] == kept[-1]
                    assert len(prompts[number].ids) > step.behind
            _within(step, prompts, limits)
    assert kept == [()]
    assert sorted(seen) == list(range(len(prompts)))


def _within(step: Pack, prompts: list[EncodedPrompt], limits: Limits) -> None:
    numbers = [number for row in step.rows for number in row]
    rows = [pack([prompts[number] for number in row], step.behind) for row in step.rows]
    longest = max(len(row.ids) for row in rows)
    assert len(rows) * longest <= step.tokens
    assert len(numbers) <= limits.inputs
    if len(numbers) > 1:
        assert longest <= limits.row
        assert step.tokens <= limits.tokens


WIDE = Limits(64, 1000, 100, shares=True, keeps=True)


def test_demonstrations_common_to_all_are_kept_and_the_rest_is_packed_behind_them() -> None:
    prompts = [prompt((*DEMOS, 5, number, 6)) for number in range(200, 260)]
    first, *packs, last = steps(prompts, WIDE)
    assert first == Keep(0, 0, 61)
    assert last == Drop()
    found = [step for step in packs if isinstance(step, Pack)]
    assert len(found) == len(packs) == 2
    assert all(step.behind == 61 and len(step.rows) == 1 for step in found)
    assert [step.tokens for step in found] == [100, 20]


def test_what_some_share_behind_what_all_share_is_kept_too() -> None:
    passages = [tuple(range(start, start + 40)) for start in (300, 400)]
    prompts = [prompt((*DEMOS, *passage, number)) for passage in passages for number in range(200, 210)]
    limits = Limits(4, 1000, 100, shares=True, keeps=True)
    kinds = [type(step).__name__ for step in steps(prompts, limits)]
    assert kinds == ["Keep", *["Keep", "Pack", "Pack", "Pack", "Drop"] * 2, "Drop"]


def test_groups_that_fit_into_a_row_are_packed_whole_without_keeping_anything() -> None:
    passages = [tuple(range(start, start + 20)) for start in (300, 400, 500)]
    prompts = [prompt((*passage, number)) for passage in passages for number in range(200, 205)]
    assert steps(prompts, WIDE) == [Pack((tuple(range(15)),), 0, 75)]
    assert steps(prompts, Limits(64, 1000, 50, shares=True, keeps=True)) == [
        Pack((tuple(range(10)), tuple(range(10, 15))), 0, 100)
    ]


def test_what_shares_little_is_scored_plainly_the_longest_first() -> None:
    prompts = [prompt((1, *range(start, start + length))) for start, length in ((200, 20), (300, 30), (400, 25))]
    found = steps(prompts, WIDE)
    assert [step.inputs for step in found if isinstance(step, Plain)] == [(1, 2, 0)]
    assert len(found) == 1


def test_nothing_is_packed_or_kept_where_that_is_not_allowed() -> None:
    prompts = [prompt((*DEMOS, number)) for number in range(200, 210)]
    assert {type(step) for step in steps(prompts, Limits(4, 1000, 100))} == {Plain}
    without = steps(prompts, Limits(4, 1000, 100, shares=True))
    assert {type(step) for step in without} == {Plain}
    assert {type(step) for step in steps(prompts, Limits(10, 1000, 100, shares=True))} == {Pack}


def test_the_same_ids_with_other_candidates_are_two_inputs() -> None:
    found = steps([prompt(DEMOS), prompt(DEMOS, LONG)], WIDE)
    assert found == [Pack(((0, 1),), 0, 63)]


@pytest.mark.parametrize(("width", "row"), [(0, 256), (64, 256), (768, 768), (5120, 4096)])
def test_rows_are_about_as_long_as_the_model_is_wide(width: int, row: int) -> None:
    assert row_of(width) == row
