"""How far a model whose weights have moved is from linear in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from shoestring.errors import KernelError
from shoestring.kernels.jacobian import jacobians
from shoestring.kernels.outputs import Items, Outputs, batches_of
from shoestring.kernels.parameters import chosen
from shoestring.kernels.settings import KernelSettings
from shoestring.models.batch import Batch
from shoestring.models.prompted import evaluating
from shoestring.progress import Bar
from shoestring.tuning.apet.delta import positions


@dataclass(frozen=True)
class Linearised:
    """A model and its linearisation, for M examples.

    Attributes:
        start: outputs f(x; theta0) [M, C], float64.
        slope: J(x) (theta - theta0) [M, C], float64.
    """

    start: Tensor
    slope: Tensor

    @property
    def values(self) -> Tensor:
        """Outputs of the linearised model [M, C]."""
        return self.start + self.slope


def displacement(start: nn.Module, end: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """Return theta - theta0 of some parameters, by name.

    Raises:
        KernelError: if the models do not have the same ones, or deltas of theirs stand at different weights.
    """
    one, other = (dict(model.named_parameters(remove_duplicate=False)) for model in (start, end))
    before, after = positions(start), positions(end)
    found = {}
    for name in names:
        if name not in one or name not in other or one[name].shape != other[name].shape:
            raise KernelError(f"{name} is not the same parameter in both models: they are not one model, tuned")
        # A choice that looks at examples may fall on other weights elsewhere, and their values are not comparable.
        if name in before and (name not in after or not torch.equal(before[name], after[name].to(before[name]))):
            raise KernelError(f"{name}: APET chose other weights here than in the run: measure it where it was made")
        found[name] = other[name].detach().to(one[name]) - one[name].detach()
    return found


def linearised(
    outputs: Outputs, items: Items, moved: Mapping[str, Tensor], batch_size: int = 8, bar: Bar | None = None
) -> Linearised:
    """Return what the model's linearisation at its own weights says where they are moved.

        f_lin(x; theta) = f(x; theta0) + J(x) (theta - theta0)

    One pass of an example through the model, in forward mode: J is not written out.

    Args:
        outputs: the function, whose model has the weights theta0.
        items: examples.
        moved: theta - theta0, by the name of a parameter; others stay.
        batch_size: examples that go through the model at once.
        bar: advanced by one for each example.

    Raises:
        KernelError: if an operation of the model has no derivative in forward mode.
        UnknownNameError: if the model has no such parameter.
    """
    params = chosen(outputs.model, moved)
    # A tied parameter is asked for under one of its names.
    by_id = {id(param): name for name, param in params.items()}
    every = dict(outputs.model.named_parameters(remove_duplicate=False))
    tangents = {by_id[id(every[name])]: tangent for name, tangent in moved.items()}
    primals = {name: param.detach() for name, param in params.items()}
    places = batches_of(outputs, items, batch_size)
    found: list[Tensor] = []
    for batch in places:
        part = [items[place] for place in batch]
        module = _Of(outputs, part, outputs.batch(part))

        def values(weights: dict[str, Tensor], module: nn.Module = module) -> Tensor:
            return functional_call(module, {f"model.{name}": weight for name, weight in weights.items()}, ())

        # Only plain attention has a derivative in forward mode.
        with torch.no_grad(), evaluating(outputs.model), sdpa_kernel(SDPBackend.MATH), _unscripted():
            try:
                found.append(torch.stack(jvp(values, (primals,), (tangents,))[:2]))
            except (NotImplementedError, RuntimeError) as error:
                first = next(iter(str(error).splitlines()), "")
                raise KernelError(
                    f"this model cannot be linearised in forward mode: {first}; try model.attention='eager'"
                ) from error
        if bar is not None:
            bar.advance(len(part))
    order = torch.tensor([place for batch in places for place in batch]).argsort()
    start, slope = torch.cat(found, 1).to("cpu", torch.float64)[:, order]
    return Linearised(start, slope)


@contextmanager
def _unscripted() -> Iterator[None]:
    """Leave out what torch says of its own use of torch.jit, the first time that forward mode is asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


@dataclass(frozen=True)
class Drift:
    """Gradients J0 and J1 of N examples at two places, all outputs and parameters of an example as one vector.

    Attributes:
        before: |J0| [N].
        after: |J1| [N].
        change: |J1 - J0| [N].
        inner: <J0, J1> [N].
    """

    before: Tensor
    after: Tensor
    change: Tensor
    inner: Tensor

    def relative(self) -> Tensor:
        """Return |J1 - J0| / |J0| [N]; 0 where both are 0."""
        return torch.where(self.change > 0, self.change / self.before, 0.0)

    def cosine(self) -> Tensor:
        """Return the cosine of the angle between J0 and J1 [N]."""
        return self.inner / (self.before * self.after)


def drift(
    start: Outputs,
    end: Outputs,
    items: Items,
    parameters: Sequence[str] | None = None,
    settings: KernelSettings | None = None,
    bar: Bar | None = None,
) -> Drift:
    """Return how far the gradients of examples are from each other in two models.

    Args:
        start: the function, of the model before.
        end: the same function, of the model after.
        items: examples; `settings.batch_size` of them are looked at together, one parameter at a time.
        parameters: names of the parameters; unless given, those that require gradients in `start`.
        settings: how gradients are computed.
        bar: advanced by one for each example.

    Raises:
        KernelError: if the models do not have the same parameters.
    """
    settings = settings or KernelSettings()
    names = list(chosen(start.model, parameters))
    places = batches_of(start, items, settings.batch_size)
    rows: list[Tensor] = []
    for batch in places:
        part = [items[place] for place in batch]
        sums = torch.zeros(4, len(part), dtype=torch.float64)
        found = (jacobians(outputs, part, names, settings) for outputs in (start, end))
        for (name, one), (same, other) in zip(*found, strict=True):
            if name != same or one.shape != other.shape:
                raise KernelError(f"{name} is not the same parameter in both models: they are not one model, tuned")
            sums += _squares(one, other)
        rows.append(sums)
        if bar is not None:
            bar.advance(len(part))
    order = torch.tensor([place for batch in places for place in batch]).argsort()
    before, after, change, inner = torch.cat(rows, 1)[:, order]
    return Drift(before.sqrt(), after.sqrt(), change.sqrt(), inner)


def _squares(one: Tensor, other: Tensor) -> Tensor:
    """Return |a|^2, |b|^2, |b - a|^2 and <a, b> of gradients [N, C, *shape] [4, N]; one example at a time."""
    found = torch.zeros(4, len(one), dtype=torch.float64)
    for number, (before, after) in enumerate(zip(one.flatten(1), other.to(one).flatten(1), strict=True)):
        first, second = before.double(), after.double()
        pairs = ((first, first), (second, second), (second - first,) * 2, (first, second))
        found[:, number] = torch.stack([torch.dot(left, right) for left, right in pairs]).cpu()
    return found


class _Of(nn.Module):
    """The outputs of a batch as a module, whose parameters are the model's under `model.`."""

    def __init__(self, outputs: Outputs, items: Items, batch: Batch) -> None:
        super().__init__()
        self.model = outputs.model
        self._given = outputs, items, batch

    def forward(self) -> Tensor:
        """Return the outputs [n, C]."""
        outputs, items, batch = self._given
        return outputs.of_batch(batch, items)
