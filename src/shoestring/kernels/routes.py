"""How each parameter's gradients are had: from its layers where that gives what autograd gives, else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from shoestring.errors import KernelError
from shoestring.kernels.capture import Captured, Use, capture, uses_of
from shoestring.kernels.cost import Terms, terms_of
from shoestring.kernels.generic import requiring, written_out
from shoestring.kernels.outputs import Items, Outputs, check_outputs
from shoestring.kernels.parameters import Named, matrix_shape
from shoestring.kernels.pieces import Flat, Gradients, Piece
from shoestring.kernels.sketches import Sketcher

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
_HALF = 0.05
_ROUNDING = 8
_ROUNDED = 0.1


@dataclass(frozen=True)
class Footprint:
    """What one parameter's gradients take and cost.

    Attributes:
        held: bytes an example, by the storage that holds them: layers with one input share it.
        terms: what products cost.
    """

    held: Mapping[tuple[int, int], float]
    terms: Terms


@dataclass(frozen=True)
class Routes:
    """How the gradients of each parameter are had.

    Attributes:
        params: the chosen parameters that have a part in the outputs, in the model's order.
        uses: layers whose inputs and output gradients are captured, and those of idle parameters, to see them wake.
        layered: names of parameters whose gradients come from layers.
        single: names of those that go through autograd, one example at a time.
        idle: chosen parameters without any part in the outputs.
        footprints: by name.
        outputs: C.
        a_pass: operations of one example's passes through the model.
    """

    params: Named
    uses: tuple[Use, ...]
    layered: frozenset[str]
    single: tuple[str, ...]
    idle: tuple[str, ...]
    footprints: Mapping[str, Footprint]
    outputs: int
    a_pass: float = 1.0

    def only(self, names: Sequence[str]) -> Routes:
        """Return the routes of some parameters."""
        wanted = set(names)
        seen = wanted.union(self.idle)
        uses = [replace(use, params={k: n for k, n in use.params.items() if n in seen}) for use in self.uses]
        return replace(
            self,
            params={name: param for name, param in self.params.items() if name in wanted},
            uses=tuple(use for use in uses if use.params),
            layered=self.layered & wanted,
            single=tuple(name for name in self.single if name in wanted),
        )


def find_routes(
    outputs: Outputs, items: Items, params: Named, sketcher: Sketcher, *, memory: int = 1 << 30, by_layer: bool = True
) -> Routes:
    """Return how the gradients of each parameter are had.

    The longest and the shortest example go through the model together. What layers give as the gradient of each of
    them is compared with autograd's: that finds tied weights that some code reads past its layer, layers called for
    tokens of several examples at once, subclasses with a forward of their own. What differs goes through autograd.

    Args:
        outputs: the function.
        items: all examples.
        params: the chosen parameters.
        sketcher: what is made of gradients before they are held.
        memory: bytes that gradients of weights may take while they are compared.
        by_layer: False sends every parameter through autograd.

    Raises:
        KernelError: if there is no example, or the outputs depend on no chosen parameter.
    """
    if not items:
        raise KernelError("there is no example to compute a kernel of")
    order = sorted(range(len(items)), key=lambda place: (outputs.length(items[place]), -place))
    probe = [items[place] for place in dict.fromkeys((order[-1], order[0]))]
    uses = tuple(uses_of(outputs.model, params)) if by_layer else ()
    unused = list[str]()
    footprints: dict[str, Footprint] = {}
    count = 0
    trial = Routes(params, uses, frozenset(name for use in uses for name in use.params.values()), (), (), {}, 0)
    checks: list[tuple[str, float, float]] = []
    for number, names in enumerate(_groups(params, memory)):
        part = trial.only(names)
        count, grads, found = _probed(outputs, probe, part)
        unused += [name for name, grad in zip(names, grads, strict=True) if grad is None]
        for name, grad in zip(names, grads, strict=True):
            if name not in part.layered or name in found.strange:
                continue
            shape = matrix_shape(params[name])
            if grad is not None:
                weights = _weights(found.values)
                gap, size, empty = _distance(grad.reshape(shape), found.pieces[name], weights)
                rounding = torch.finfo(grad.dtype).eps * float(weights.amax()) * found.magnitudes[name]
                checks.append((name, gap, _allowed(grad.dtype, size, rounding, empty=empty)))
            pieces = sketcher.of(found.pieces[name], name, shape)
            footprints[name] = _footprint(Gradients((pieces,), (len(probe),), count, sketcher.shape(shape)), number)
    layered = {name for name, gap, size in checks if gap <= size}
    if len(unused) == len(params):
        raise KernelError(f"the scores depend on none of the chosen parameters: {', '.join(list(params)[:8])}")
    # What autograd is to see to alone may come to have a part in later examples; what layers see to is watched.
    idle = unused if by_layer else []
    single = [name for name in params if name not in layered and name not in idle]
    for name in single:
        footprints[name] = _flat_footprint(sketcher.shape(matrix_shape(params[name])), count, params[name])
    kept = {name: param for name, param in params.items() if name not in idle}
    wanted = [replace(u, params={k: n for k, n in u.params.items() if n not in single}) for u in uses]
    watched = tuple(use for use in wanted if use.params)
    weights = sum(param.numel() for param in outputs.model.parameters())
    a_pass = 2.0 * (1 + count) * weights * outputs.length(probe[0])
    return Routes(kept, watched, frozenset(layered), tuple(single), tuple(idle), footprints, count, a_pass)


def gradients_of_items(
    outputs: Outputs, batches: Sequence[Items], routes: Routes, sketcher: Sketcher
) -> Iterator[tuple[Tensor, dict[str, tuple[Piece, ...]]]]:
    """Yield outputs and pieces of every parameter, batch by batch.

    Raises:
        KernelError: if a layer that was checked is called for these examples in a way in which it was not.
    """
    singles = {name: routes.params[name] for name in routes.single}
    for items in batches:
        values, found = None, dict[str, tuple[Piece, ...]]()
        if routes.uses:
            captured = capture(outputs, items, routes.uses)
            values = captured.values
            new = {name for name in routes.idle if captured.pieces.get(name)}
            strange = sorted(new | (captured.strange - set(routes.single)))
            if strange:
                raise KernelError(
                    f"{strange[0]} is used for these examples in another way than for those it was checked on; "
                    'use route="autograd", which is slower and takes any use'
                )
            found |= {name: captured.pieces[name] for name in captured.pieces if name in routes.layered}
        if singles:
            values, flats = written_out(outputs, items, singles)
            found |= {name: (flat,) for name, flat in flats.items()}
        if values is None:
            raise KernelError("no parameter is asked about")
        check_outputs(values, routes.outputs)
        sketched = {n: sketcher.of(p, n, matrix_shape(routes.params[n])) for n, p in found.items()}
        yield values, sketched


def _groups(params: Named, memory: int) -> Iterator[list[str]]:
    """Yield names of parameters whose gradients together fit in memory."""
    group, size = list[str](), 0
    for name, param in params.items():
        bytes_ = param.numel() * param.element_size()
        if group and size + bytes_ > memory:
            yield group
            group, size = [], 0
        group.append(name)
        size += bytes_
    yield group


def _probed(outputs: Outputs, probe: Items, part: Routes) -> tuple[int, tuple[Tensor | None, ...], Captured]:
    """Return C, autograd's gradients of all outputs, weighted, and what layers give."""
    grads: list[tuple[Tensor | None, ...]] = []
    params = list(part.params.values())

    def differentiate(values: Tensor) -> None:
        total = (values * _weights(values)).sum()
        grads.append(torch.autograd.grad(total, params, allow_unused=True))

    with requiring(params):
        found = capture(outputs, probe, part.uses, differentiate)
    outputs.passes.backward += 1
    outputs.passes.backward_examples += len(probe)
    return found.values.shape[1], grads[0], found


def _weights(values: Tensor) -> Tensor:
    """Return another weight for every example and output, so that none is taken for another, [n, C]."""
    return torch.arange(1, values.numel() + 1, device=values.device, dtype=values.dtype).view_as(values)


def _distance(grad: Tensor, pieces: Sequence[Piece], weights: Tensor) -> tuple[float, float, bool]:
    """Return the distance of a gradient from what pieces sum to, its norm, and whether all that they sum to is zero.

    Few rows are made at a time.
    """
    gap = size = 0.0
    empty = True
    tall = max(1, (1 << 22) // max(1, grad.shape[1] * weights.numel()))
    for start in range(0, grad.shape[0], tall):
        rows = slice(start, min(start + tall, grad.shape[0]))
        true = grad[rows].to(weights.dtype)
        made = torch.zeros((*weights.shape, *true.shape), dtype=weights.dtype, device=grad.device)
        for piece in pieces:
            piece.add_to(made, rows)
        empty = empty and not made.any()
        gap += float((torch.einsum("nc,ncrw->rw", weights, made) - true).square().sum())
        size += float(true.square().sum())
    return gap**0.5, size**0.5, empty


def _allowed(dtype: torch.dtype, size: float, rounding: float, *, empty: bool) -> float:
    """Return how far a gradient may be from what layers give.

    Of terms that cancel, what is left is their rounding. That of half precision may seem to be more than the gradient
    itself, where it is not, and would cover any mistake: there it counts in full only where layers give nothing.
    """
    exact = dtype in _TOLERANCE
    rounding *= _ROUNDING
    return _TOLERANCE.get(dtype, _HALF) * size + (rounding if exact or empty else min(rounding, _ROUNDED * size))


def _footprint(gradients: Gradients, group: int) -> Footprint:
    held: dict[tuple[int, int], float] = {}
    for tensor in gradients.tensors():
        storage = tensor.untyped_storage()
        held[group, storage.data_ptr()] = storage.nbytes() / gradients.total
    return Footprint(held, terms_of(gradients))


def _flat_footprint(shape: tuple[int, int], outputs: int, param: nn.Parameter) -> Footprint:
    size = outputs * shape[0] * shape[1] * param.element_size()
    terms = terms_of(Gradients(((Flat(torch.empty(0, 1, 1, 1)),),), (0,), outputs, shape))
    return Footprint({(-1, id(param)): float(size)}, terms)
