"""The tail of a model: behind the last place where positions meet, only those that are read need computing.

Once the last layer has attended, no position looks at another one again: what follows (the attention's output layer,
norms, the feed-forward layer, a masked model's transform before its head) is one function of each position by itself.
Logits are read at one position of some forty, or at a few; at all others that work is for nothing. It is about
three quarters of a layer's multiplications, 6 % of those of a model of 12 layers, 3 % of one of 24.

Which modules these are is found out, not listed: a recorder watches one forward pass of two inputs and notes the last
function that could move anything between positions. A second pass, in which everything that these modules read and give
elsewhere is NaN, shows that none of it reaches what is read.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shoestring.errors import first_line
from shoestring.models.mixing import Recorder
from shoestring.seeds import isolated

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)
# The probe: tokens of its two rows, at least; shares of these where they are read, at one place a row and at two.
_LENGTH, _READ = 6, (((0.4,), (0.8,)), ((0.2, 0.7), (0.5, 0.5)))
# Logits of the same numbers, multiplied in matrices of other sizes, differ by less of 1 + |logit|.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}
_COARSE = 0.1
_PLAIN = "all positions of %s are computed to the end: %s"
# Modules that are computed for no more than such a share of positions are worth the copying.
_SHARE = 0.5
_ACTIVE: weakref.WeakKeyDictionary[nn.Module, Tail] = weakref.WeakKeyDictionary()


class Tail:
    """The modules of a model that come behind the last mixing of positions, outermost ones.

    Args:
        modules: each maps tensors [N, L, ...], or [N L, ...], to one of such a shape, position by position.
        dense: whether what stands behind them needs memory of its own for every position.
    """

    def __init__(self, modules: Sequence[nn.Module] = (), *, dense: bool = False) -> None:
        self.modules, self.dense = tuple(modules), dense

    @contextmanager
    def narrowed(self, positions: Tensor) -> Iterator[None]:
        """Compute the modules at `positions` [N, P] only, while this lasts; elsewhere is what one of these has."""
        with _hung(self.modules, _Narrowing(positions, dense=self.dense)):
            yield

    @contextmanager
    def marked(self, positions: Tensor) -> Iterator[None]:
        """Let everything that modules read and give be NaN but at `positions` [N, P], while this lasts."""
        with _hung(self.modules, _Marking(positions)):
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


def tail_of(model: PreTrainedModel, length: int = _LENGTH) -> Tail:
    """Find the tail of a model by forward passes of two inputs; an empty one where nothing can be left out.

    Nothing is left out of a model in training mode, of an encoder with a decoder, or of one that cannot read the probe;
    nor where hooks of others may expect every position. A model that changes in a forward pass, as RWKV's weights are
    rescaled, does so here.

    Args:
        model: as it will be evaluated.
        length: tokens of the probe; some models compute short inputs otherwise than long ones.
    """
    if model.training or model.config.is_encoder_decoder:
        return Tail()
    try:
        head = model.get_output_embeddings()
        return Tail() if head is None else _found(model, head, max(length, _LENGTH))
    except Exception as error:  # Whatever is wrong will be said of the first batch that is really to be read.
        _LOG.info(_PLAIN, type(model).__name__, f"{type(error).__name__}: {first_line(error)}")
        return Tail()


def _found(model: PreTrainedModel, head: nn.Module, length: int) -> Tail:
    """Find a tail, and compare logits with those of a full pass."""
    size: Any = model.get_input_embeddings().weight
    # From the middle of the vocabulary: no special tokens.
    rows = [[(len(size) // 2 + row + place) % len(size) for place in range(length)] for row in range(2)]
    ids = torch.tensor(rows, device=size.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad(), isolated(0):
        with Recorder(model, head, ids.shape) as recorder:
            logits = _logits(model, inputs)
        what = "logits change"
        for tail in (Tail(recorder.found()), Tail(recorder.found(), dense=True)):
            try:
                if all(_agrees(model, inputs, tail, logits, positions) for positions in _positions(ids)):
                    return tail
            except RuntimeError as error:  # A view, say, of what has no memory of its own.
                what = f"{type(error).__name__}: {first_line(error)}"
    _LOG.info(_PLAIN, type(model).__name__, what)
    return Tail()


def _positions(ids: Tensor) -> Iterator[Tensor]:
    for share, other in _READ:
        yield torch.tensor([[int(one * ids.shape[1]) for one in row] for row in (share, other)], device=ids.device)


def _agrees(model: PreTrainedModel, inputs: Any, tail: Tail, logits: Tensor, positions: Tensor) -> bool:
    """Return whether logits are the same where they are read, and NaN elsewhere does not reach them."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    wanted = logits[rows, positions]
    bound = _ROUNDING.get(model.dtype, _COARSE)
    for way in (tail.marked, tail.narrowed):
        with way(positions):
            found = _logits(model, inputs)[rows, positions]
        if not bool(((found - wanted).abs() <= bound * (1 + wanted.abs())).all()):
            return False
    return True


def _logits(model: PreTrainedModel, inputs: Any) -> Tensor:
    from shoestring.models.scoring import logits_of

    return logits_of(model, inputs)


@contextmanager
def _hung(modules: Sequence[nn.Module], hooks: _Narrowing | _Marking) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(hooks.before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(hooks.behind).remove)
        yield


class _Narrowing:
    """The hooks of one forward pass: what goes into a module is narrowed, what comes out is spread again."""

    def __init__(self, positions: Tensor, *, dense: bool) -> None:
        self._positions, self._dense = positions, dense
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._shape: torch.Size | None = None  # of what went in, but for its last axis; None: as it is

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take what is read."""
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        count, places = self._positions.shape
        self._shape = first.shape[:-1]
        if places > _SHARE * self._shape.numel() / count:
            self._shape = None
            return None
        return tuple(map(self._at, args)), {name: self._at(value) for name, value in kwargs.items()}

    def behind(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Put it back where it was."""
        if self._shape is None:
            return None
        count, places = self._positions.shape
        length, width = self._shape.numel() // count, output.shape[-1]
        if places == 1:
            whole = output.expand(count, length, width)
            return (whole.contiguous() if self._dense else whole).reshape(*self._shape, width)
        order = torch.arange(length, device=output.device)
        # Positions may be counted from the end.
        read = (self._positions.to(output.device) % length)[:, None] == order[:, None]
        return output[self._rows.to(output.device), read.int().argmax(2)].reshape(*self._shape, width)

    def _at(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # A model may be spread over several devices.
        rows, positions = self._rows.to(value.device), self._positions.to(value.device)
        return (value if value.ndim == 3 else value.reshape(len(rows), -1, value.shape[-1]))[rows, positions]


class _Marking:
    """The hooks of a forward pass in which all is computed, and what is not read is NaN."""

    def __init__(self, positions: Tensor) -> None:
        self._positions = positions

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Mark what goes in."""
        return tuple(map(self._marked, args)), {name: self._marked(value) for name, value in kwargs.items()}

    def behind(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Mark what comes out."""
        return self._marked(output)

    def _marked(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        positions = self._positions.to(value.device)
        rows = torch.arange(len(positions), device=value.device)[:, None]
        shaped = value.reshape(len(positions), -1, value.shape[-1])
        whole = torch.full_like(shaped, torch.nan)
        whole[rows, positions] = shaped[rows, positions]
        return whole.reshape(value.shape)
