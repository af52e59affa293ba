"""Prefix tuning: keys and values of virtual tokens before those of the input, in every attention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from shoestring.tuning.base import TUNINGS
from shoestring.tuning.inserting import Inserting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


_WIDTH = 512


@TUNINGS.register("prefix")
class Prefix(Inserting):
    """m keys and values stand before those of the input in every self-attention, and are trained.

    By default they begin as those that the frozen model makes of m real tokens, which for a causal model is the same as
    these tokens standing before the input. In T5 encoder and decoder have prefixes, without a relative position. With
    `reparametrise` keys and values are K + f(E), E [m, hidden] one for all layers, f a network of two layers with tanh
    for the keys, and one for the values, of each layer; with real tokens K are their keys and values, fixed, and f = 0
    at first, else K = 0.

    Source: Li & Liang 2021 (prefix tuning), section 4; Malladi et al. 2023 (MeZO), table 17 (real activations).
    Differs: the reference initialises from real tokens only without reparametrisation, and OPT only; it leaves the
        positions of the input as they are, which `shift = false` does too.
    """

    kind: Literal["prefix"] = "prefix"
    length: PositiveInt = 5
    """Number m of virtual tokens."""
    init: Literal["tokens", "normal"] = "tokens"
    """Keys and values of real tokens, or normal numbers, from which zeroth-order methods hardly get away."""
    tokens: tuple[NonNegativeInt, ...] | None = None
    """Ids of the m real tokens; by default drawn from the vocabulary."""
    reparametrise: bool = False
    """Train a network that makes keys and values. What is saved is what it makes."""
    hidden: PositiveInt | None = None
    """Width of that network and of what it reads; 512 unless given."""
    shift: bool | None = None
    """Move the input's positions up by m, as if real tokens were before it; by default where the model is causal."""

    @property
    def width(self) -> int:
        """Width of the network."""
        return self.hidden or _WIDTH

    @property
    def identity(self) -> bool:
        """Nothing is promised: outputs are those behind a prefix."""
        return False

    def insert(self, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
        """Put prefixes in; tokens, numbers and networks are of the stream (seed, "prefix").

        Raises:
            ModelError: if the attention cannot be reached, a token is not in the vocabulary, positions do not move,
                or `length` is more than there are.
        """
        from shoestring.tuning.prefixes import insert_prefixes

        return insert_prefixes(self, model, seed)

    def count(self, model: PreTrainedModel) -> int:
        """Return the number of weights, from the shapes that one token has in every attention."""
        from shoestring.tuning.prefixes import count_prefixes

        own = self.own(model)
        return count_prefixes(self, model) + sum(p.numel() for p in model.parameters() if id(p) in own)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the keys and values, whatever makes them."""
        from shoestring.tuning.delta import save_delta
        from shoestring.tuning.prefixes import plain_prefixes

        with plain_prefixes(model):
            plain = self.model_copy(update={"reparametrise": False, "hidden": None, "tokens": None, "init": "normal"})
            save_delta(plain, model, folder)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tokens(self.tokens, self.init, self.length)
        if self.hidden is not None and not self.reparametrise:
            raise ValueError(f"hidden={self.hidden} has no effect without reparametrise=true")
        return self


def check_tokens(tokens: tuple[int, ...] | None, init: str, length: int) -> None:
    """Refuse tokens that are not read, or not as many as there are places.

    Raises:
        ValueError: if so.
    """
    if tokens is None:
        return
    if init != "tokens":
        raise ValueError(f'tokens have no effect with init="{init}"')
    if len(tokens) != length:
        raise ValueError(f"tokens names {len(tokens)}, and length={length}")
