"""The plain backend is the stream as written down: integers exactly, floats within the stated bound, golden values."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import noise_twin
from shoestring.zeroth.noise import philox
from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise.plain import PlainNoise, _dither, box_muller, words

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**63 - 1)
STARTS = st.integers(0, 2**12) | st.integers(2**34 - 300, 2**34 + 300) | st.integers(0, 2**57)


def fill(distribution: str, size: int, seed: int, key: int, start: int = 0) -> torch.Tensor:
    out = torch.empty(size)
    PlainNoise().fill(out, Source(key, distribution), seed, start)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_twin_gives_the_published_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: str
) -> None:
    assert " ".join(f"{word:08x}" for word in noise_twin.philox(counter, key)) == expected


@given(SEEDS, SEEDS, st.integers(0, 2), st.integers(0, 2**33) | st.integers(0, 2**55))
def test_words_are_those_of_the_twin(seed: int, key: int, stream: int, block: int) -> None:
    made = torch.stack(words(seed, key, stream, block, 3, CPU), 1).tolist()
    assert made == [list(noise_twin.words(seed, key, stream, block + i)) for i in range(3)]


@given(SEEDS, SEEDS, STARTS)
def test_gaussian_elements_are_those_of_the_twin(seed: int, key: int, start: int) -> None:
    expected = [noise_twin.gaussian(seed, key, start + i) for i in range(70)]
    assert fill("gaussian", 70, seed, key, start).tolist() == pytest.approx(expected, abs=9e-7, rel=0)


@given(SEEDS, SEEDS, STARTS)
def test_rademacher_elements_are_those_of_the_twin(seed: int, key: int, start: int) -> None:
    expected = [noise_twin.rademacher(seed, key, start + i) for i in range(140)]
    assert fill("rademacher", 140, seed, key, start).tolist() == expected


@given(SEEDS, SEEDS, STARTS)
def test_rounding_bits_are_those_of_the_twin(seed: int, key: int, start: int) -> None:
    expected = [noise_twin.dither(seed, key, start + i) for i in range(530)]
    assert _dither(seed, key, start, 530, CPU).tolist() == expected


def exact(radius_word: torch.Tensor, angle_word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    radius = torch.sqrt(-2 * torch.log((radius_word | 1).double() * 2.0**-32))
    angle = angle_word.double() * (2 * math.pi / 2**32)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def test_floats_differ_from_float64_by_less_than_the_stated_bound() -> None:
    drawn = words(5, 6, philox.GAUSSIAN, 0, 400_000, CPU)
    edge = torch.arange(0, 100_000)
    for radius, angle in (
        (drawn[0], drawn[1]),
        (torch.cat([edge, 2**32 - 1 - edge]), drawn[2][:200_000]),
        (drawn[0][:4000], (torch.arange(4000) - 2000 << 20) % 2**32),
        (drawn[0][:8], torch.tensor([0, 1 << 29, (1 << 29) - 1, 1 << 30, 1 << 31, 3 << 30, 7 << 29, 2**32 - 1])),
    ):
        for made, right in zip(box_muller(radius, angle), exact(radius, angle), strict=True):
            assert float((made - right).abs().max()) < 9e-7


def test_small_and_large_radii_are_as_exact_as_float32_allows() -> None:
    radius_word = torch.tensor([2**32 - 1, 2**32 - 3, 2**32 - 1001, 1, 3, 2**31 - 1, 2**31, 3037000499])
    made, _ = box_muller(radius_word, torch.zeros_like(radius_word))
    right, _ = exact(radius_word, torch.zeros_like(radius_word))
    assert ((made - right) / right).abs().max() < 2.5e-7


def test_constants_are_float32_numbers() -> None:
    for value in (philox.LOG_2, philox.TURN, *philox.LOG, *philox.SINE, *philox.COSINE):
        assert torch.tensor(value, dtype=torch.float32).item() == value


def test_golden_values_stay_the_same_on_every_machine() -> None:
    z = fill("gaussian", 5000, 2**62 + 12345, 2**61 + 678, 2**40 + 9)
    assert [value.hex() for value in z[:4].tolist()] == GAUSSIAN[:4]
    assert hashlib.sha256(z.numpy().astype("<f4").tobytes()).hexdigest() == GAUSSIAN[4]


def test_golden_signs_stay_the_same_on_every_machine() -> None:
    signs = fill("rademacher", 5000, 2**62 + 12345, 2**61 + 678, 2**40 + 9)
    assert "".join("+" if value > 0 else "-" for value in signs[:24].tolist()) == SIGNS[0]
    assert hashlib.sha256(signs.numpy().astype("<f4").tobytes()).hexdigest() == SIGNS[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_golden_roundings_stay_the_same_on_every_machine(dtype: torch.dtype) -> None:
    weight = ((torch.arange(5000) - 2500) / 512).to(dtype)
    PlainNoise().add(weight, Source(2**61 + 678, "gaussian"), [(77, 1e-3)], 5, 0.999, 2**62 + 3)
    bits = weight.view(torch.int16).numpy().astype("<i2")
    assert hashlib.sha256(bits.tobytes()).hexdigest() == ROUNDED[dtype]


GAUSSIAN = [
    "-0x1.c8986c0000000p+0",
    "0x1.85954a0000000p-1",
    "-0x1.7964000000000p-1",
    "-0x1.f8252a0000000p-1",
    "f0d6b061588b654a9c0152a8f6a08e42cc1f6d3990f09fe78ba3df1d64cdb695",
]
SIGNS = ["+-+---++-+++---+-++--+++", "e9e659ea0c685e47fcc2a596607dd78c3f3ea0ab3d3fcc0a7d7c983714e8621c"]
ROUNDED = {
    torch.bfloat16: "11ead40df034b839596e82ba62be49cd55604da7151dbcca57c5952206f0fc67",
    torch.float16: "3ebe01e0fe1b54a4cb91d7755f4cdae75fb12976b53f2ae9a33693bc3d605227",
}
