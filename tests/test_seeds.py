from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.seeds import derive, isolated, numpy_stream, torch_stream

parts = st.lists(st.one_of(st.integers(0, 99), st.text(max_size=3)), max_size=3)


@given(st.integers(0, 2**64), parts)
def test_a_derived_seed_fits_63_bits(seed: int, path: list[str | int]) -> None:
    assert 0 <= derive(seed, *path) < 2**63


@given(parts, parts)
def test_other_paths_give_other_seeds(one: list[str | int], other: list[str | int]) -> None:
    # Parts are told apart by a separator that no name in this package holds.
    if not any("\x1f" in str(part) for part in (*one, *other)):
        assert (derive(0, *one) == derive(0, *other)) == (one == other)


def test_derived_seeds_are_the_same_everywhere_and_for_ever() -> None:
    """If this fails, every number of every user changes: say so in the changelog under "Changes numbers"."""
    assert derive(13, "mezo") == 4161915237476874113
    assert numpy_stream(13, "split").integers(0, 1000, 4).tolist() == [270, 945, 115, 667]
    assert torch_stream(13, "split").initial_seed() == derive(13, "split")


def test_a_number_and_its_text_are_different_names() -> None:
    assert derive(0, 1) != derive(0, "1")


def test_a_stream_depends_on_its_name_alone(global_random_states: None) -> None:
    assert numpy_stream(1, "a").random() == numpy_stream(1, "a").random() != numpy_stream(1, "b").random()
    import torch

    draws = [torch.rand(3, generator=torch_stream(1, name)).tolist() for name in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]


def draw() -> tuple[float, float, float]:
    import torch

    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True])
def test_global_generators_are_seeded_inside_and_as_before_outside(fails: bool) -> None:
    with isolated(5):
        outer = draw()
        first: tuple[float, ...] = ()
        with suppress(KeyError), isolated(1):
            first = draw()
            if fails:
                raise KeyError
        after = draw()
        with isolated(1):
            again = draw()
    with isolated(5):
        assert draw() == outer
        assert draw() == after
    assert first == again != outer
