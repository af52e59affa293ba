"""Kernels of models: what is asked for, and how it comes about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from shoestring.errors import KernelError, KernelStoreError
from shoestring.kernels.blocks import Block, Layout, assembled, joined
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.kernels.gram import Meter, Work, compute_block, work_in
from shoestring.kernels.identity import items_digest, model_digest, tensors_digest
from shoestring.kernels.kernel import Kernel
from shoestring.kernels.outputs import Items, Outputs, uid
from shoestring.kernels.parameters import checked_masks, chosen, layer_of
from shoestring.kernels.plan import MIB, Sizes, make_plan
from shoestring.kernels.processes import is_first, mine, shared, wait
from shoestring.kernels.projection import Projection
from shoestring.kernels.routes import Routes, find_routes
from shoestring.kernels.settings import KernelSettings
from shoestring.kernels.sketches import Sketcher
from shoestring.kernels.store import KernelStore, layout_of
from shoestring.progress import Progress, Silent


@dataclass(frozen=True)
class Request:
    """Kernels of some examples and others.

    Attributes:
        outputs: the function whose Jacobian is taken.
        rows: examples A.
        columns: examples B; None for A themselves.
        formulas: names of formulas; all of them are had from the same passes.
        parameters: names of the parameters, frozen ones too; None for those that require gradients.
        masks: chosen elements of parameters, bool, of a parameter's shape; others count in full.
        layerwise: whether each layer's part is kept.
        projection: a random projection of each parameter's gradient, for formulas that are inner products of gradients.
    """

    outputs: Outputs
    rows: Items
    columns: Items | None = None
    formulas: Sequence[str] = ("sgd",)
    parameters: Sequence[str] | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    layerwise: bool = False
    projection: Projection | None = None


def compute_kernels(
    request: Request,
    settings: KernelSettings | None = None,
    *,
    store: Path | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Kernel]:
    """Return kernels by the name of their formula.

    One forward and C backward passes a batch give the inputs and the output gradients of every layer; of them, layer by
    layer, gradients or their inner products are made. All processes of a torch.distributed group compute blocks of rows
    and all return the whole kernel, the same to the last bit as one process.

    Args:
        request: what is asked for.
        settings: how it is computed.
        store: a folder for kernels; blocks are kept there, and what is there already is not computed again.
        scratch: a folder in which captured gradients wait, in files that are gone at the end, rather than in memory:
            then one pass of each example is enough where memory alone would ask for several.
        progress: where progress is reported, in passes of one example through the model.

    Raises:
        KernelError: if it cannot be computed, or not with these settings.
        UnknownNameError: if there is no such formula or parameter.
        NonFiniteScoreError: if an output is not finite.
        KernelStoreError: if a stored block is damaged.
        OutputError: if the disk refuses.
    """
    settings = settings or KernelSettings()
    work = _prepare(request, settings, scratch)
    description = describe(request, work, settings)
    numbers = mine(len(work.layout.blocks))
    kept = None
    if store is not None:
        if is_first():
            kept = KernelStore.begin(store, description, _for_readers(request, work.layout))
        wait()
        kept = kept or KernelStore.begin(store, description, _for_readers(request, work.layout))
    begun = {number: _begun(kept, number, work.layout) for number in numbers}
    passes = sum(work_in(work, number, done) for number, (done, _) in begun.items())
    opened = (progress or Silent()).bar("kernel", max(1, int(passes))) if passes else nullcontext(None)
    with opened as bar:
        meter = Meter(bar or _NoBar(), work.routes.a_pass)

        def compute(number: int) -> Block:
            done, block = begun.pop(number)
            for groups in compute_block(work, number, block, done, meter):
                if kept is not None:
                    kept.save(number, groups, block)
            return block

        blocks = shared(compute, work.layout, numbers)
    return _kernels(work.layout, blocks, _for_readers(request, work.layout), description)


def read_kernels(folder: Path) -> dict[str, Kernel]:
    """Return the kernels of a store's folder, by the name of their formula.

    Raises:
        KernelStoreError: if it holds none, is damaged, or is not finished.
    """
    store = KernelStore(folder)
    manifest = store.manifest()
    layout = layout_of(manifest)
    blocks = []
    for number in range(len(layout.blocks)):
        found = store.load(number, layout)
        if found is None or found[0] < manifest["description"]["groups"]:
            raise KernelStoreError(
                f"{folder} is not finished: block {number} of {len(layout.blocks)} is missing a part"
            )
        blocks.append(found[1])
    return _kernels(layout, blocks, manifest, manifest["description"])


def describe(request: Request, work: Work, settings: KernelSettings) -> dict[str, Any]:
    """Return what a kernel depends on, down to the order in which it is summed, as JSON values."""
    outputs = request.outputs
    return {
        "scores": outputs.label,
        "difference": outputs.difference,
        "model": model_digest(outputs.model),
        "rows": items_digest(outputs, request.rows),
        "columns": None if request.columns is None else items_digest(outputs, request.columns),
        "formulas": list(request.formulas),
        "parameters": [name for group in work.plan.groups for name in group],
        "autograd": list(work.routes.single),
        "masks": tensors_digest(work.masks) if work.masks else None,
        "layers": list(work.layout.layers),
        "projection": None if request.projection is None else dataclasses.asdict(request.projection),
        "settings": settings.model_dump(mode="json"),
        "groups": len(work.plan.groups),
        "blocks": len(work.plan.rows),
        "tile": work.plan.tile,
    }


def _prepare(request: Request, settings: KernelSettings, scratch: Path | None) -> Work:
    params = chosen(request.outputs.model, request.parameters)
    masks = checked_masks(request.masks, params)
    formulas = _checked_formulas(request)
    sketcher = Sketcher() if request.projection is None else request.projection.sketcher()
    if request.projection is not None and masks:
        raise KernelError("masks and a random projection do not go together: a projection mixes the elements")
    everything = [*request.rows, *(request.columns or ())]
    memory = settings.memory * MIB // 2
    routes = find_routes(
        request.outputs, everything, params, sketcher, memory=memory, by_layer=settings.route == "auto"
    )
    count = len(request.rows if request.columns is None else request.columns)
    if not request.rows or not count:
        raise KernelError("a kernel needs at least one row and one column")
    layers = _layers(routes) if request.layerwise else ("",)
    kinds = {name for formula in formulas for name in (formula, FORMULAS.get(formula).flipped)}
    sizes = Sizes(len(request.rows), count, request.columns is None, len(kinds) * len(layers) * routes.outputs**2)
    plan = make_plan(routes, sizes, settings, spooled=scratch is not None)
    layout = Layout(plan.rows, count, routes.outputs, sizes.symmetric, formulas, layers)
    examples = request.outputs, request.rows, request.columns
    return Work(*examples, routes, masks, sketcher, layout, plan, settings, scratch)


def _checked_formulas(request: Request) -> tuple[str, ...]:
    if not request.formulas:
        raise KernelError("no formula is asked for; there are: " + ", ".join(FORMULAS.names()))
    for name in request.formulas:
        formula = FORMULAS.get(name)
        if request.projection is not None and not formula.linear:
            raise KernelError(
                f"a random projection keeps inner products of gradients, but {name} is one of their signs; "
                'use formula "sgd", or no projection'
            )
    return tuple(dict.fromkeys(request.formulas))


def _layers(routes: Routes) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer_of(name) for name in routes.params))


def _begun(store: KernelStore | None, number: int, layout: Layout) -> tuple[int, Block]:
    found = None if store is None else store.load(number, layout)
    return (0, layout.empty(number)) if found is None else found


def _for_readers(request: Request, layout: Layout) -> dict[str, Any]:
    rows = [uid(item) for item in request.rows]
    columns = rows if request.columns is None else [uid(item) for item in request.columns]
    return {"rows": rows, "columns": columns, "layout": dataclasses.asdict(layout)}


def _kernels(
    layout: Layout, blocks: Sequence[Block], about: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, Kernel]:
    found = {}
    for name in layout.formulas:
        parts = [_part(layout, blocks, name, layer, about) for layer in range(len(layout.layers))]
        whole = parts[0] if layout.layers == ("",) else _sum(parts, dict(zip(layout.layers, parts, strict=True)))
        found[name] = dataclasses.replace(whole, description=description)
    return found


def _part(layout: Layout, blocks: Sequence[Block], name: str, layer: int, about: Mapping[str, Any]) -> Kernel:
    formula = FORMULAS.get(name)
    return Kernel(
        formula=name,
        values=assembled(layout, blocks, name, layer),
        row_norms=joined(layout, blocks, "row", f"squares/{formula.left.name}/{layer}").sqrt(),
        column_norms=joined(layout, blocks, "column", f"squares/{formula.right.name}/{layer}").sqrt(),
        row_outputs=joined(layout, blocks, "row", "outputs"),
        column_outputs=joined(layout, blocks, "column", "outputs"),
        rows=tuple(about["rows"]),
        columns=tuple(about["columns"]),
    )


def _sum(parts: Sequence[Kernel], layers: Mapping[str, Kernel]) -> Kernel:
    """Return the kernel of all layers, by adding them in order."""
    values = parts[0].values.clone()
    rows, columns = parts[0].row_norms.square(), parts[0].column_norms.square()
    for part in parts[1:]:
        values += part.values
        rows = rows + part.row_norms.square()
        columns = columns + part.column_norms.square()
    return dataclasses.replace(
        parts[0], values=values, row_norms=rows.sqrt(), column_norms=columns.sqrt(), layers=layers
    )


class _NoBar:
    def advance(self, steps: int = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
