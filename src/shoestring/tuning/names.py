"""Names of parameters: every one that a tensor goes by, and the nearest to what was asked for."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from shoestring.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

_SHOWN = 4


def tensors(model: nn.Module) -> list[tuple[tuple[str, ...], nn.Parameter]]:
    """Return every parameter once, with all names that it goes by: a tied one has several."""
    names: dict[int, list[str]] = {}
    found: dict[int, nn.Parameter] = {}
    for name, param in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(param), []).append(name)
        found[id(param)] = param
    return [(tuple(names[key]), param) for key, param in found.items()]


def matching(model: nn.Module, pattern: str, where: str) -> set[str]:
    """Return all names of the parameters that a regular expression is found in one of the names of.

    Raises:
        ModelError: if there are none; shows the nearest names.
    """
    found = {name for names, _ in tensors(model) if any(re.search(pattern, name) for name in names) for name in names}
    if not found:
        near = ", ".join(nearest(pattern, (name for name, _ in model.named_parameters())))
        raise ModelError(f"{where}={pattern!r} matches no parameter of {type(model).__name__}; the nearest are {near}")
    return found


def nearest(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names most like what a regular expression spells, one for all that differ by numbers only."""
    plain = re.sub(r"[\\^$()|?*+\[\]{}]", "", pattern)
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(plain)
    scores: dict[str, tuple[float, str]] = {}
    for name in names:
        matcher.set_seq1(name)
        shared = sum(block.size for block in matcher.get_matching_blocks() if block.size > 1)
        score = shared / max(1, len(plain)) - 0.001 * len(name)
        kind = re.sub(r"\d+", "0", name)
        if kind not in scores or score > scores[kind][0]:
            scores[kind] = (score, name)
    return [name for _, name in sorted(scores.values(), key=lambda pair: -pair[0])[:_SHOWN]]


def check_pattern(text: str | None) -> str | None:
    """Return a regular expression as it is.

    Raises:
        ValueError: if it is none; says where it goes wrong.
    """
    if text is not None:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text
