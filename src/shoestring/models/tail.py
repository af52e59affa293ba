"""The tail of a model: behind the last place where positions meet, only those that are read need computing.

Once the last layer has attended, no position looks at another one again: what follows (the attention's output layer,
norms, the feed-forward layer, a masked model's transform before its head) is one function of each position by itself.
Logits are read at one position of some forty, or at a few; at all others that work is for nothing. It is about
three quarters of a layer's multiplications, 6 % of those of a model of 12 layers, 3 % of one of 24.

Which modules these are is found out, not listed: a recorder watches one forward pass of a few tokens and notes the last
function that could move anything between positions. A second pass, in which everything that is not read is NaN, shows
that none of it reaches what is read.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shoestring.models.mixing import Recorder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)
# The probe: rows of so many tokens, read there; in the second reading at two places a row.
_LENGTH, _READ, _READ_TWICE = 6, ((2,), (4,)), ((1, 4), (3, 3))
# Logits of the same numbers, multiplied in matrices of other sizes, differ by less of 1 + |logit|.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}
_COARSE = 0.1
# Modules that are computed for no more than such a share of positions are worth the copying.
_SHARE = 0.5
_ACTIVE: weakref.WeakKeyDictionary[nn.Module, Tail] = weakref.WeakKeyDictionary()


class Tail:
    """The modules of a model that come behind the last mixing of positions, outermost ones.

    Args:
        modules: each maps tensors [N, L, ...], or [N L, ...], to one of such a shape, position by position.
    """

    def __init__(self, modules: Sequence[nn.Module] = ()) -> None:
        self.modules = tuple(modules)

    @contextmanager
    def narrowed(self, positions: Tensor, filler: float | None = None) -> Iterator[None]:
        """Compute the modules at `positions` [N, P] only, while this lasts.

        Args:
            positions: those that are read.
            filler: what all others hold behind each module; None: what one that is read holds.
        """
        narrowing = _Narrowing(positions, filler)
        with ExitStack() as stack:
            for module in self.modules:
                before = module.register_forward_pre_hook(narrowing.before, with_kwargs=True)
                stack.callback(before.remove)
                stack.callback(module.register_forward_hook(narrowing.behind).remove)
            yield


@contextmanager
def tails_read(model: PreTrainedModel, tail: Tail) -> Iterator[None]:
    """Let `logits_at` compute the tail of a model only where its logits are read, while this lasts."""
    outer = _ACTIVE.get(model)
    _ACTIVE[model] = tail
    try:
        yield
    finally:
        if outer is None:
            del _ACTIVE[model]
        else:
            _ACTIVE[model] = outer


def tail_in_use(model: PreTrainedModel) -> Tail:
    """Return the tail that is to be narrowed now; an empty one where none is."""
    return _ACTIVE.get(model) or Tail()


def tail_of(model: PreTrainedModel) -> Tail:
    """Find the tail of a model by forward passes of a dozen tokens; an empty one where nothing can be left out.

    Nothing is left out of a model in training mode, or that cannot read the probe; nor of modules on which hooks of
    others hang, which may expect every position.
    """
    head = None if model.training else model.get_output_embeddings()
    if head is None:
        return Tail()
    size = int(model.config.get_text_config().vocab_size)
    # From the middle of the vocabulary: no special tokens.
    rows = [[(size // 2 + row + place) % size for place in range(_LENGTH)] for row in range(2)]
    ids = torch.tensor(rows, device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        with torch.no_grad():
            with Recorder(model, head, ids.shape) as recorder:
                logits = _logits(model, inputs)
            tail = Tail(recorder.found())
            if all(_agrees(model, inputs, tail, logits, *way) for way in _ways(ids.device)):
                return tail
            what = "logits change"
    except Exception as error:  # Whatever is wrong will be said of the first batch that is really to be read.
        what = f"{type(error).__name__}: {error}"
    _LOG.info("all positions of %s are computed to the end: %s", type(model).__name__, what)
    return Tail()


def _ways(device: torch.device) -> Iterator[tuple[Tensor, float | None]]:
    for places in (_READ, _READ_TWICE):
        for filler in (float("nan"), None):
            yield torch.tensor(places, device=device), filler


def _agrees(
    model: PreTrainedModel, inputs: Any, tail: Tail, logits: Tensor, positions: Tensor, filler: float | None
) -> bool:
    """Return whether logits are the same where they are read."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    with tail.narrowed(positions, filler):
        found = _logits(model, inputs)[rows, positions]
    wanted = logits[rows, positions]
    bound = _ROUNDING.get(model.dtype, _COARSE)
    return bool(((found - wanted).abs() <= bound * (1 + wanted.abs())).all())


def _logits(model: PreTrainedModel, inputs: Any) -> Tensor:
    from shoestring.models.scoring import logits_of

    return logits_of(model, inputs)


class _Narrowing:
    """The hooks of one forward pass: what goes into a module is narrowed, what comes out is spread again."""

    def __init__(self, positions: Tensor, filler: float | None) -> None:
        self._positions, self._filler = positions, filler
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._shape: torch.Size | None = None  # of what went in, but for its last axis; None: as it is

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take what is read."""
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        count, places = self._positions.shape
        length = first.shape[:-1].numel() // count
        self._shape = first.shape[:-1] if places <= _SHARE * length else None
        if self._shape is None:
            return None
        return tuple(map(self._at, args)), {name: self._at(value) for name, value in kwargs.items()}

    def behind(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Put it back where it was."""
        if self._shape is None:
            return None
        count, places = self._positions.shape
        length, width = self._shape.numel() // count, output.shape[-1]
        if self._filler is not None:
            whole = output.new_full((count, length, width), self._filler)
            whole[self._rows.to(output.device), self._positions.to(output.device)] = output
        elif places == 1:
            whole = output.expand(count, length, width)
        else:
            order = torch.arange(length, device=output.device)
            place = (self._positions.to(output.device)[:, None] == order[:, None]).int().argmax(2)
            whole = output[self._rows.to(output.device), place]
        return whole.reshape(*self._shape, width)

    def _at(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # A model may be spread over several devices.
        rows, positions = self._rows.to(value.device), self._positions.to(value.device)
        return (value if value.ndim == 3 else value.reshape(len(rows), -1, value.shape[-1]))[rows, positions]
