"""One forward and C backward passes of a batch, and what each layer's gradients are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from shoestring.errors import KernelError
from shoestring.kernels.attention import SingleKeys
from shoestring.kernels.generic import requiring
from shoestring.kernels.layers.base import LayerRule, rule_of, settled
from shoestring.kernels.outputs import Items, Outputs
from shoestring.kernels.pieces import Piece, merged
from shoestring.models.prompted import evaluating


@dataclass(frozen=True)
class Use:
    """A layer that owns one of the chosen parameters: its own name for it, and the parameter's name in the model."""

    module: nn.Module
    rule: LayerRule
    params: Mapping[str, str]


def uses_of(model: nn.Module, names: Mapping[str, nn.Parameter]) -> list[Use]:
    """Return the layers that own chosen parameters and have a rule."""
    by_id = {id(param): name for name, param in names.items()}
    found = []
    for module in model.modules():
        own = {key: by_id[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in by_id}
        if own and (rule := rule_of(module)) is not None:
            found.append(Use(module, rule, own))
    return found


@dataclass(frozen=True)
class Captured:
    """What a batch of n examples gives.

    Attributes:
        values: outputs [n, C], in the order of the examples.
        pieces: of each parameter, pieces whose sum is its gradient; () where it has no part in the outputs.
        strange: parameters of which some use could not be told apart by example.
        magnitudes: of each parameter, where it is asked for, the sum of the norms of all terms that its gradients are
            sums of: what rounding errors are in proportion to.
    """

    values: Tensor
    pieces: dict[str, tuple[Piece, ...]]
    strange: frozenset[str]
    magnitudes: dict[str, float]


@dataclass
class _Call:
    use: Use
    seen: Tensor
    edge: GradientEdge
    shape: torch.Size
    rows: int

    def by_example(self, count: int) -> bool:
        """Return whether its first axis is one of examples, and of their rows and tokens.

        T5 looks up a bias for each pair of positions, [T, T, heads], where T may be a multiple of the examples.
        """
        if self.shape[0] % count or self.shape[0] % self.rows or self.seen.shape[0] != self.shape[0]:
            return False
        return self.seen.is_floating_point() or self.seen.ndim == 1 or self.rows == 1 or self.shape[0] == self.rows


@dataclass
class _Watch:
    """Sees what goes through layers during one forward pass."""

    rows: int = 1
    repeat: bool = True
    calls: list[_Call] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)
    repeated: bool = False

    def starting(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note how many rows the model is given."""
        self.rows = max([v.shape[0] for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim > 1] or [1])

    def saw(self, use: Use, inputs: tuple[Any, ...], output: Any) -> Any:
        """Note a call; return its output, in a form whose gradient can be asked for."""
        seen = inputs[0] if inputs else None
        if not isinstance(seen, Tensor) or not isinstance(output, Tensor) or not output.is_floating_point():
            self.strange.update(use.params.values())
            return output
        if isinstance(use.module, nn.Embedding) and output.ndim > 2 and output.shape[0] == 1 < self.rows:
            if not self.repeat:
                self.strange.update(use.params.values())
                return output
            # Positions are looked up once for the whole batch: let every row have its own.
            self.repeated = True
            output = output.repeat(self.rows, *[1] * (output.ndim - 1))
            seen = seen.expand(self.rows, *seen.shape[1:])
        if not output.requires_grad:
            output = output.detach().requires_grad_()
            # What comes next may change its input in place, which a leaf does not allow.
            self.calls.append(_Call(use, seen.detach(), get_gradient_edge(output), output.shape, self.rows))
            return output.clone()
        # An edge stays that of this very value, even where what comes next changes it in place.
        self.calls.append(_Call(use, seen.detach(), get_gradient_edge(output), output.shape, self.rows))
        return output


@contextmanager
def watching(model: nn.Module, uses: Sequence[Use], *, repeat: bool = True) -> Iterator[_Watch]:
    """Watch layers inside the block; nothing is left on the model.

    `repeat`: whether each row is given look-ups of its own where there is one for all.
    """
    watch = _Watch(repeat=repeat)
    with ExitStack() as stack:
        handle = model.register_forward_pre_hook(watch.starting, with_kwargs=True)
        stack.callback(handle.remove)
        for use in uses:
            if isinstance(use.module, nn.Embedding):
                continue
            hook = use.module.register_forward_hook(lambda _, seen, made, use=use: watch.saw(use, seen, made))
            stack.callback(hook.remove)
        stack.enter_context(_Lookups(watch, [use for use in uses if isinstance(use.module, nn.Embedding)]))
        stack.enter_context(SingleKeys())
        yield watch


class _Lookups(TorchFunctionMode):
    """Sees every look-up in the weight of an embedding, whatever its module does before and after it.

    Models have embeddings that make ids of an attention mask, or scale what they have looked up.
    """

    def __init__(self, watch: _Watch, uses: Sequence[Use]) -> None:
        super().__init__()
        self._watch = watch
        self._uses = {id(use.module.weight): use for use in uses}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func is functional.embedding:
            ids = args[0] if args else kwargs["input"]
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if (use := self._uses.get(id(weight))) is not None:
                return self._watch.saw(use, (ids,), made)
        return made


def capture(
    outputs: Outputs, items: Items, uses: Sequence[Use], then: Callable[[Tensor], None] | None = None
) -> Captured:
    """Return outputs and gradients of one batch.

    One forward pass, and one backward pass for each output over the whole batch, which stops at the first layer that is
    asked about and makes no gradients of weights.

    Args:
        outputs: the function.
        items: the batch.
        uses: layers whose parameters are asked about.
        then: called with the outputs while their graph is still there.

    Raises:
        KernelError: if the outputs have no gradient at all.
    """
    # No graph is kept of what comes before the first layer that is asked about, nor for the gradients of weights.
    bare = nullcontext() if then is not None else requiring(outputs.model.parameters(), wanted=False)
    with torch.enable_grad(), evaluating(outputs.model), bare:
        batch = outputs.batch(items)  # outside: whatever that asks the model is not the outputs
        values, watch = _watched(outputs, batch, items, uses)
        names = [name for use in uses for name in use.params.values()]
        if not values.requires_grad and (watch.calls or then is not None):
            raise KernelError("the scores have no gradient: they are detached, or made by operations without one")
        grads = _output_grads(outputs, values, watch.calls, more=then is not None) if watch.calls else []
        if then is not None:
            then(values)
    return _sorted(values.detach(), names, watch, grads, weigh=then is not None)


def _watched(outputs: Outputs, batch: Any, items: Items, uses: Sequence[Use]) -> tuple[Tensor, _Watch]:
    """Return the outputs and what was seen; look-ups that models do not take for each row are left to autograd.

    T5's biases of relative positions are such: of a single target token they look like positions of a whole batch.
    """
    with watching(outputs.model, uses) as watch:
        try:
            return outputs.of_batch(batch, items), watch
        except RuntimeError:
            if not watch.repeated:
                raise
    with watching(outputs.model, uses, repeat=False) as watch:
        return outputs.of_batch(batch, items), watch


def _output_grads(outputs: Outputs, values: Tensor, calls: Sequence[_Call], *, more: bool) -> list[Tensor | None]:
    """Return the gradients of all outputs in what each call returned, [C, *shape], or None where they have no part."""
    edges = [call.edge for call in calls]
    count = values.shape[1]
    found: list[list[Tensor | None]] = []
    for output in range(count):
        keep = more or output + 1 < count
        found.append(list(torch.autograd.grad(values[:, output].sum(), edges, retain_graph=keep, allow_unused=True)))
        outputs.passes.backward += 1
        outputs.passes.backward_examples += len(values)
    stacked: list[Tensor | None] = []
    for place, call in enumerate(calls):
        parts = [grads[place] for grads in found]
        for grads in found:
            grads[place] = None  # or everything would be held twice
        if all(part is None for part in parts):
            stacked.append(None)
        elif count == 1:
            stacked.append(parts[0][None] if parts[0] is not None else None)
        else:
            device, dtype = next((part.device, part.dtype) for part in parts if part is not None)
            zeros = torch.zeros(call.shape, dtype=dtype, device=device)
            stacked.append(torch.stack([zeros if part is None else part for part in parts]))
    return stacked


def _sorted(
    values: Tensor, names: Sequence[str], watch: _Watch, grads: Sequence[Tensor | None], *, weigh: bool
) -> Captured:
    """Return what was seen by parameter, example by example."""
    count, outputs = values.shape
    pieces: dict[str, list[Piece]] = {name: [] for name in names}
    strange = set(watch.strange)
    magnitudes = dict.fromkeys(names, 0.0)
    for call, grad in zip(watch.calls, grads, strict=True):
        if grad is None:
            continue
        if not call.by_example(count) or grad.ndim < 3:
            strange.update(call.use.params.values())
            continue
        # Rows of one example stand together: several for each are as many more tokens.
        by_example = grad.reshape(outputs, count, -1, call.shape[-1]).transpose(0, 1)
        embedded = not call.seen.is_floating_point()
        seen = call.seen.reshape(count, -1) if embedded else call.seen.reshape(count, -1, call.seen.shape[-1])
        for key, name in call.use.params.items():
            piece = call.use.rule.piece(call.use.module, key, seen, by_example)
            if piece is None:
                strange.add(name)
            else:
                pieces[name].append(piece)
            if weigh:
                magnitudes[name] += _magnitude(seen, by_example, key)
    found = {name: tuple(settled(piece) for piece in merged(parts)) for name, parts in pieces.items()}
    return Captured(values, found, frozenset(strange), magnitudes)


def _magnitude(seen: Tensor, grads: Tensor, name: str) -> float:
    """Return sum_t |d_t| |x_t|, or of the gradients alone where that is all that enters."""
    sizes = grads.float().norm(dim=-1)
    if name == "weight" and seen.is_floating_point() and seen.shape[1] == grads.shape[2]:
        sizes = sizes * seen.float().norm(dim=-1)[:, None]
    return float(sizes.sum())
