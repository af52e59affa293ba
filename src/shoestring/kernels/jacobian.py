"""Jacobians themselves, parameter by parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from shoestring.kernels.outputs import Items, Outputs, batches_of
from shoestring.kernels.parameters import chosen, matrix_shape
from shoestring.kernels.pieces import Gradients
from shoestring.kernels.plan import MIB, Sizes, make_plan
from shoestring.kernels.products import working
from shoestring.kernels.routes import find_routes, gradients_of_items
from shoestring.kernels.settings import KernelSettings
from shoestring.kernels.sketches import Sketcher


def jacobians(
    outputs: Outputs, items: Items, parameters: Sequence[str] | None = None, settings: KernelSettings | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yield names of parameters and df / dtheta of all examples, [N, C, *shape], in the model's order.

    One parameter's is written out at a time; that many numbers are held at once, beside what `settings.memory` allows.
    Parameters without a part in the outputs are left out.

    Raises:
        KernelError: if it cannot be computed, or not with these settings.
        UnknownNameError: if there is no such parameter.
    """
    settings = settings or KernelSettings()
    params, sketcher = chosen(outputs.model, parameters), Sketcher()
    routes = find_routes(
        outputs, items, params, sketcher, memory=settings.memory * MIB // 2, by_layer=settings.route == "auto"
    )
    whole = settings.model_copy(update={"block_rows": len(items)})
    plan = make_plan(routes, Sizes(len(items), 1, symmetric=False, sums=0), whole)
    places = batches_of(outputs, items, settings.batch_size)
    batches = [[items[place] for place in batch] for batch in places]
    counts = tuple(len(batch) for batch in batches)
    order = torch.tensor([place for batch in places for place in batch]).argsort()
    for names in plan.groups:
        part = routes.only(names)
        found = [pieces for _, pieces in gradients_of_items(outputs, batches, part, sketcher)]
        for name, param in part.params.items():
            shape = matrix_shape(param)
            gradients = Gradients(tuple(pieces[name] for pieces in found), counts, routes.outputs, shape)
            dtype = working(gradients) if any(gradients.batches) else torch.float32
            block = gradients.block(slice(0, shape[0]), dtype, param.device)
            yield name, block.view(len(items), routes.outputs, *param.shape)[order.to(param.device)]
