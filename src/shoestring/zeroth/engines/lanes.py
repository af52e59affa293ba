"""Lanes: one forward pass of a batch repeated for several points, each part meeting its own weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from shoestring.products import quick
from shoestring.zeroth.engines.axes import keeps, name_of, writes
from shoestring.zeroth.engines.rules import RULES
from shoestring.zeroth.engines.substitution import TRAINED, Substitution
from shoestring.zeroth.engines.weights import PointWeights

SPLIT, VARIANT, LOST = 2, 4, 8
_TAG = "_shoestring_lanes"
# Functions whose operands beside the first have axes of their own, which a number of rows may equal by chance.
_MATRIX = frozenset(
    ["linear", "addmm", "mm", "mv", "embedding", "layer_norm", "rms_norm", "group_norm", "bilinear", "conv1d", "conv2d",
     "conv3d", "batch_norm", "instance_norm", "prelu", "__getitem__", "index_select", "gather", "take"]
)  # fmt: skip
_PRODUCTS = frozenset(["matmul", "__matmul__", "__rmatmul__", "einsum", "tensordot"])


class LanesError(Exception):
    """A computation does not keep the rows of a repeated batch apart."""


@dataclass(eq=False, slots=True)
class Tag:
    """What a tensor is among lanes; hung on the tensor itself, and so gone with it, or when the evaluation is over.

    Attributes:
        run: of which evaluation: tags of others mean nothing.
        flag: SPLIT, VARIANT or LOST.
        others: of a variant, its values at the points after the first.
        by: the function that lost the lanes.
    """

    run: object
    flag: int
    others: tuple[Tensor, ...] = ()
    by: str = ""


class Repeated(Substitution):
    """Active while a closure is evaluated on a batch repeated for P points: chunk p of the rows meets point p.

    Every tensor computed from the batch is *split*: its first axis holds P equal parts, one a point. What is computed
    from weights alone, such as the embeddings of positions, is a *variant*: a value for each point. All else is shared.
    A function of split tensors runs once; one that reads weights or variants runs point by point, each on its chunk.
    Where a computation moves or mixes the first axis the lanes are *lost*, which matters once weights meet it.

    Args:
        weights: at P > 1 points.
        rows: P times the number of examples.

    Raises:
        LanesError: if chunks cannot be told apart.
    """

    def __init__(self, weights: PointWeights, rows: int) -> None:
        super().__init__(weights)
        self._count, self.rows = weights.count, rows
        self.token = object()
        self.split = Tag(self.token, SPLIT)
        self._tagged: list[ref[Tensor]] = []

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        # Buffers that were written into, and what modules keep: others may save them.
        left = [value for tagged in self._tagged if (value := tagged()) is not None]
        for value in left:
            vars(value).pop(_TAG, None)
        self._tagged.clear()

    def repeat(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch repeated for every point."""
        repeated = {name: torch.cat([value] * self._count) for name, value in batch.items()}
        for value in repeated.values():
            self.hang(value, self.split)
        return repeated

    def hang(self, value: Tensor, tag: Tag) -> None:
        """Hang a tag on a tensor, for as long as the evaluation lasts."""
        setattr(value, _TAG, tag)
        self._tagged.append(ref(value))

    def parts(self, losses: Tensor) -> Tensor:
        """Return losses [P * N] as [P, N]."""
        if not self.is_split(losses) or losses.shape != (self.rows,):
            tag = self.tag(losses)
            raise LanesError(f"the losses, of shape {list(losses.shape)}" + (f", after {tag.by}" if tag else ""))
        return losses.view(self._count, -1)

    def scan(self, values: Iterable[Any]) -> int:
        """Return what is among values: flags TRAINED, SPLIT, VARIANT, LOST."""
        flags, run = 0, self.token
        for value in values:
            if isinstance(value, Tensor):
                if id(value) in self._table:
                    flags |= TRAINED
                else:
                    tag = getattr(value, _TAG, None)
                    if tag is not None and tag.run is run:
                        flags |= tag.flag
            elif type(value) in (list, tuple):
                flags |= self.scan(value)
        return flags

    def _call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], flags: int) -> Any:
        if not flags & (TRAINED | VARIANT):
            out = quick(func)(*args, **kwargs)
            kept = not flags & LOST and self.keeps(func, args, kwargs)
            by = self._loser((*args, *kwargs.values())) if flags & LOST else name_of(func)
            self._mark(args[0] if func == Tensor.__setitem__ else out, by, kept=kept)
            return out
        if flags & LOST:
            raise LanesError(f"{name_of(func)}, of weights and what {self._loser((*args, *kwargs.values()))} gives")
        return Call(self, func, args, kwargs, split=bool(flags & SPLIT)).run()

    def keeps(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Return whether a call keeps rows in place on the first axis; what is written into takes that axis over."""
        whole = func == Tensor.__setitem__
        return keeps(func, args, kwargs, (lambda _: True) if whole else self.is_split, self.rows)

    def _mark(self, out: Any, name: str, *, kept: bool) -> None:
        if isinstance(out, Tensor):
            good = kept and out.ndim > 0 and out.shape[0] % self.rows == 0
            setattr(out, _TAG, self.split if good else Tag(self.token, LOST, by=name))
            self._tagged.append(ref(out))  # As `hang`, which would take its time at every operation.
        elif isinstance(out, (list, tuple)):
            for item in out:
                self._mark(item, name, kept=kept)

    def tag(self, value: Any) -> Tag | None:
        """Return the tag of a tensor in this evaluation."""
        tag = getattr(value, _TAG, None) if isinstance(value, Tensor) else None
        return tag if tag is not None and tag.run is self.token else None

    def is_split(self, value: Any) -> bool:
        """Return whether the first axis of a tensor holds rows of every point."""
        return self.tag(value) is self.split

    def _loser(self, values: Iterable[Any]) -> str:
        for value in values:
            tag = self.tag(value)
            if tag is not None and tag.flag == LOST:
                return tag.by
            if type(value) in (list, tuple) and self._loser(value):
                return self._loser(value)
        return ""


class Call:
    """One call of a function that reads weights or variants, made point by point."""

    def __init__(self, mode: Repeated, func: Any, args: Sequence[Any], kwargs: dict[str, Any], *, split: bool) -> None:
        self.mode, self.func, self.args, self.kwargs, self.split = mode, func, args, kwargs, split
        self.name = name_of(func)
        self.count = mode.weights.count

    def run(self) -> Any:
        """Return what the function gives, tagged."""
        mode, weights = self.mode, self.mode.weights
        changed = self.args[0] if writes(self.func) else self.kwargs.get("out")
        if changed is not None and not mode.scan([changed]):
            raise LanesError(f"{self.name}, which writes what differs by point into a tensor that is one for all")
        if self.split and not mode.keeps(self.func, self.args, self.kwargs):
            raise LanesError(self.name)
        rule = RULES.get(self.func)
        made = rule(weights, self.lanes, self.args, self.kwargs) if rule is not None else None
        if made is not None:
            return self._joined(made.flatten(0, 1)) if self.split else self._variant(list(made.unbind(0)))
        args = self.lanes(tuple(self.args))
        kwargs = self.lanes(self.kwargs)
        func = quick(self.func)
        outs = [func(*one, **more) for one, more in zip(args, kwargs, strict=True)]
        if changed is not None and self.split:
            return None if outs[0] is None else changed
        return self._concatenated(outs) if self.split else self._lifted(outs)

    def lanes(self, value: Any) -> list[Any]:
        """Return the values of an argument at each point."""
        count = self.count
        if isinstance(value, Tensor):
            return self._tensor_lanes(value)
        if type(value) in (list, tuple) and value:
            return [type(value)(lane) for lane in zip(*map(self.lanes, value), strict=True)]
        if isinstance(value, dict) and value:
            lanes = zip(*map(self.lanes, value.values()), strict=True)
            return [dict(zip(value, lane, strict=True)) for lane in lanes]
        return [value] * count

    def _tensor_lanes(self, value: Tensor) -> list[Tensor]:
        mode, count = self.mode, self.count
        tensor = mode.weights.table.get(id(value))
        if tensor is not None:
            return mode.weights.whole(tensor)
        tag = mode.tag(value)
        if tag is mode.split:
            return list(value.chunk(count))
        values = [value, *tag.others] if tag is not None else [value] * count
        if self._rows_fit(value):
            return [one.chunk(count)[lane] for lane, one in enumerate(values)]
        return values

    def _rows_fit(self, value: Tensor) -> bool:
        """Return whether rows of a tensor that is not split belong to rows of those that are."""
        if not self.split or self.name in _MATRIX or (self.name in _PRODUCTS and value.ndim < 3):
            return False
        return (value.ndim, value.shape[:1]) in self._split_shapes((*self.args, *self.kwargs.values()))

    def _split_shapes(self, values: Iterable[Any]) -> Iterable[tuple[int, torch.Size]]:
        for value in values:
            if self.mode.is_split(value):
                yield value.ndim, value.shape[:1]
            elif type(value) in (list, tuple):
                yield from self._split_shapes(value)

    def _joined(self, out: Tensor) -> Tensor:
        if out.shape[0] % self.mode.rows:
            raise LanesError(f"{self.name}, whose result has the shape {list(out.shape)}")
        self.mode.hang(out, self.mode.split)
        return out

    def _concatenated(self, outs: list[Any]) -> Any:
        first = outs[0]
        if isinstance(first, Tensor):
            if first.ndim == 0:
                raise LanesError(f"{self.name}, whose result is one number")
            return self._joined(torch.cat(outs))
        return self._each(outs, self._concatenated)

    def _lifted(self, outs: list[Any]) -> Any:
        if isinstance(outs[0], Tensor):
            return self._variant(outs)
        return self._each(outs, self._lifted)

    def _each(self, outs: list[Any], what: Callable[[list[Any]], Any]) -> Any:
        first = outs[0]
        if isinstance(first, (list, tuple)):
            parts = [what(list(items)) for items in zip(*outs, strict=True)]
            # Named tuples of torch take one sequence, lists and tuples too.
            return type(first)(parts)
        if any(out != first for out in outs[1:]):
            raise LanesError(f"{self.name}, which gives {outs} at the points")
        return first

    def _variant(self, outs: list[Tensor]) -> Tensor:
        self.mode.hang(outs[0], Tag(self.mode.token, VARIANT, tuple(outs[1:])))
        return outs[0]
