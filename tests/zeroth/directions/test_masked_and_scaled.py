from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.dense import gaussian
from shoestring.zeroth.directions.masked import Masked
from shoestring.zeroth.directions.scaled import Scaled
from shoestring.zeroth.masks import Bits, Places, pack, pack_bits, unpacked
from shoestring.zeroth.tensors import Trained, trained_tensors

SIZE = (1 << 15) * 8 + 77  # Several blocks of the table of counts, and a rest.


def tensor_of(values: Tensor) -> Trained:
    return trained_tensors([{"params": [nn.Parameter(values)], "param_names": ["w"]}])[0]


def drawn(size: int, share: float) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(size)) < share


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["places", "bits"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, SIZE), (0, 0), (5, 6), (1 << 15, SIZE), (40_003, 200_001), (SIZE - 1, SIZE)]
)
def test_a_mask_tells_what_is_chosen_in_any_part(share: float, kind: str, start: int, stop: int) -> None:
    chosen = drawn(SIZE, share)
    mask = Places(chosen.nonzero().view(-1)) if kind == "places" else Bits(pack_bits(chosen))
    places, before = mask.inside(start, stop)
    assert mask.count == int(chosen.sum())
    assert before == int(chosen[:start].sum())
    assert torch.equal(places, chosen[start:stop].nonzero().view(-1))


@given(st.lists(st.booleans(), min_size=1, max_size=600), st.booleans())
def test_a_packed_mask_is_the_mask(values: list[bool], few: bool) -> None:
    chosen = torch.tensor(values)
    if few:
        chosen[1:] = False
    saved = pack(chosen)
    places, _ = unpacked(saved, chosen.device).inside(0, len(chosen))
    assert torch.equal(places, chosen.nonzero().view(-1))
    assert saved.numel() * saved.element_size() <= max(8, (len(values) + 7) // 8)


def families(size: int) -> dict[str, Directions]:
    chosen = drawn(size, 0.3)
    return {
        "places": Masked(gaussian(), {"w": Places(chosen.nonzero().view(-1))}),
        "bits": Masked(gaussian(), {"w": Bits(pack_bits(chosen))}),
        "scaled": Scaled(gaussian(), {"w": -2.0}),  # Powers of two: `fill` rounds c z to float32, adding does not.
        "scaled, of masked": Scaled(Masked(gaussian(), {"w": Bits(pack_bits(chosen))}), {"w": 0.5}),
    }


@pytest.mark.parametrize("name", families(8))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_fast_ways_are_the_general_ones(name: str, dtype: torch.dtype) -> None:
    """`fill` defines a direction; what adds it to weights must agree with the slow way built on it."""
    size, width = 60 * 12, 12
    family = families(size)[name]
    values = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    tensor = tensor_of(values)
    terms, seeds, rows = [(4, 0.3), (9, -1.1)], (4, 9), ((0.1, 0.0), (-0.1, 0.2), (0.0, 0.0))
    error = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    for start, stop in ((0, size), (100, 333)):
        fast, slow = values[start:stop].clone(), values[start:stop].clone()
        family.add(fast, tensor, terms, start)
        Directions.add(family, slow, tensor, terms, start)
        torch.testing.assert_close(fast, slow, rtol=0, atol=error)
        outs, others = (torch.full((3, stop - start), 7.0, dtype=dtype) for _ in range(2))
        family.points(outs, values[start:stop], tensor, seeds, rows, start)
        Directions.points(family, others, values[start:stop], tensor, seeds, rows, start)
        torch.testing.assert_close(outs, others, rtol=0, atol=error)
    index = torch.tensor([3, 59, 0, 3])
    outs = torch.empty(3, 4, width, dtype=dtype)
    family.rows(outs, values.view(-1, width), index, tensor, seeds, rows)
    whole = torch.empty(3, size, dtype=dtype)
    family.points(whole, values, tensor, seeds, rows)
    torch.testing.assert_close(outs, whole.view(3, -1, width)[:, index], rtol=0, atol=error)


@pytest.mark.parametrize("name", families(8))
def test_any_part_of_a_direction_is_the_whole_ones(name: str) -> None:
    size = SIZE
    family, tensor = families(size)[name], tensor_of(torch.zeros(size))
    whole, part = torch.empty(size), torch.empty(5000)
    family.fill(whole, tensor, 3)
    family.fill(part, tensor, 3, 150_001)
    assert torch.equal(whole[150_001:155_001], part)
    assert float(whole.std()) > 0.2


def test_chosen_weights_get_the_first_numbers_and_others_none() -> None:
    chosen = drawn(1000, 0.2)
    tensor = tensor_of(torch.zeros(1000))
    masked = Masked(gaussian(), {"w": Bits(pack_bits(chosen))})
    z, base = torch.empty(1000), torch.empty(int(chosen.sum()))
    masked.fill(z, tensor, 5)
    gaussian().fill(base, tensor, 5)
    assert torch.equal(z[chosen], base)
    assert not z[~chosen].any()
    found = masked.chosen(tensor, 100, 400)
    assert found is not None
    assert torch.equal(found, chosen[100:400])
    inside = Scaled(masked, {"w": 2.0}).chosen(tensor, 0, 1000)
    assert inside is not None
    assert torch.equal(inside, chosen)
    assert gaussian().chosen(tensor, 0, 3) is None


@pytest.mark.parametrize("rounding", [None, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_chosen_keep_their_very_bits(dtype: torch.dtype, rounding: int | None) -> None:
    chosen = drawn(400, 0.4)
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).to(dtype)
    values[~chosen] = torch.tensor([-0.0, 1e-40, float("nan"), 3.0]).to(dtype).repeat(100)[: int((~chosen).sum())]
    before, tensor = values.clone(), tensor_of(values)
    masked = Masked(gaussian(), {"w": Bits(pack_bits(chosen))})
    masked.add(values, tensor, [(1, 0.1)], keep=0.9, rounding=rounding)
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    assert torch.equal(values[~chosen].view(bits), before[~chosen].view(bits))
    assert not torch.equal(values[chosen], before[chosen])


@pytest.mark.parametrize(
    ("family", "touched"),
    [
        (Masked(gaussian(), {"w": Places(torch.tensor([1]))}), True),
        (Masked(gaussian(), {"w": Places(torch.empty(0, dtype=torch.int64))}), False),
        (Masked(gaussian(), {}), False),
        (Scaled(gaussian(), {"w": 1.0}), True),
        (Scaled(gaussian(), {"w": 0.0}), False),
        (Scaled(gaussian(), {}), False),
        (Scaled(Masked(gaussian(), {}), {"w": 1.0}), False),
    ],
)
def test_a_tensor_without_a_part_in_it_is_left_alone(family: Any, touched: bool) -> None:
    values = torch.arange(4.0)
    tensor = tensor_of(values)
    assert family.touches(tensor) is touched
    if not touched:
        z = torch.ones(4)
        family.fill(z, tensor, 2)
        assert not z.any()
