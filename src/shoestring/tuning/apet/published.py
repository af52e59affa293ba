"""The choice that the published code of PET scaling makes, and the modules it chooses among."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

Sized = tuple[str, int]
"""Name of a tensor, and its number of weights."""

BUDGETS: Mapping[str, Mapping[str, int]] = {
    "bigscience/bloom-7b1": {
        "lora": 3_932_160, "adapter": 12_043_680, "soft_prompt": 409_600, "bitfit": 1_359_872,
    },
    "bigscience/bloom-1b1": {"lora": 1_179_648, "adapter": 2_409_600, "soft_prompt": 153_600, "bitfit": 408_576},
    "bigscience/bloom-560m": {"lora": 786_432, "adapter": 2_409_600, "soft_prompt": 102_400, "bitfit": 272_384},
    "google/t5-v1_1-small": {"lora": 229_376, "adapter": 803_584, "soft_prompt": 51_200, "bitfit": 121_216},
    "google/t5-v1_1-base": {"lora": 589_824, "adapter": 1_807_488, "soft_prompt": 76_800, "bitfit": 270_208},
    "google/t5-v1_1-xxl": {"lora": 6_291_456, "adapter": 19_269_888, "soft_prompt": 409_600, "bitfit": 2_444_644},
}  # fmt: skip
"""The published budgets, by model and scale. That of bloom-1b1's adapters is bloom-560m's, and stands as published."""

SCALES = ("lora", "adapter", "soft_prompt", "bitfit")
"""Tunings that published budgets are the sizes of."""

_GROUPS = {"lora": 2, "adapter": 4, "soft_prompt": 1}
"""Tensors that are chosen together: A and B; weight and bias of two projections; one virtual token."""


def published_choice(tensors: Iterable[Sized], budget: int, seed: int) -> list[str]:
    """Return the names of the tensors that the published code trains, in the order in which it picks them.

    Tensors, in the order of `named_parameters()`, are of two lists: those inserted (whose names hold "lora", "adapter"
    or "soft_prompt"), in groups of consecutive ones, and those of the backbone, one by one. From the stream of Python's
    generator seeded with budget * seed, first the groups are shuffled, then the backbone's. Each list has an allowance
    of budget // 2. Groups are gone through until it is used up; one is taken if its *first* tensor fits into what is
    left, and pays for all of its tensors, so that the last one may overdraw. Then the same for single tensors of the
    backbone, which cannot. What does not fit is passed over, so that small budgets end with biases and norms.

    Source: yushengsu-thu/PET_Scaling train_decoder_only.py:539-612, train_seq2seq.py:479-550.
    Differs: the published code counts only tensors that DeepSpeed's ZeRO-3 has partitioned, and silently chooses
        nothing without it; here all count.
    """
    inserted, backbone = [], []
    for tensor in tensors:
        (inserted if _kind(tensor[0]) else backbone).append(tensor)
    groups = []
    while inserted:
        size = _GROUPS[str(_kind(inserted[0][0]))]
        groups.append(inserted[:size])
        inserted = inserted[size:]
    singles = [[tensor] for tensor in backbone]
    stream = random.Random(budget * seed)
    stream.shuffle(groups)
    stream.shuffle(singles)
    return [*_walk(groups, budget // 2), *_walk(singles, budget // 2)]


def published_budget(name: str, scale: str) -> int | None:
    """Return the published budget of a model, by the end of its name, at a scale; None if there is none."""
    for model, scales in BUDGETS.items():
        if name.rpartition("/")[2] == model.rpartition("/")[2]:
            return scales.get(scale)
    return None


def _walk(groups: Sequence[Sequence[Sized]], allowance: int) -> Iterable[str]:
    for group in groups:
        if allowance <= 0:
            return
        if group[0][1] <= allowance:
            yield from (name for name, _ in group)
            allowance -= sum(size for _, size in group)


def _kind(name: str) -> str | None:
    return next((kind for kind in _GROUPS if kind in name), None)
