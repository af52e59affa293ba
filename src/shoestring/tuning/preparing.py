"""What may be done to a model before it is tuned: embeddings tied or untied, weights drawn anew."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from shoestring.errors import ModelError
from shoestring.seeds import derive, torch_seeded
from shoestring.tuning.names import matching, tensors

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Embeddings = Literal["as-is", "untied", "tied"]


def embedding_shape(model: PreTrainedModel) -> tuple[int, int]:
    """Return the number of tokens of a vocabulary and the size of their embeddings."""
    count, size = model.get_input_embeddings().get_parameter("weight").shape
    return count, size


def tied_output(model: PreTrainedModel) -> bool:
    """Return whether input and output embedding are one matrix."""
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight


def set_embeddings(model: PreTrainedModel, wanted: Embeddings, kind: str) -> None:
    """Tie the output embedding to the input embedding, or give it a matrix of its own, which begins as a copy.

    Raises:
        ModelError: if there is no output embedding, or it has another shape.
    """
    from torch import nn

    if wanted == "as-is":
        return
    output: Any = model.get_output_embeddings()
    if output is None:
        raise ModelError(
            f'tuning.embeddings={wanted!r} with tuning.kind="{kind}": {type(model).__name__} has no output embedding'
        )
    matrix: Any = model.get_input_embeddings().weight
    if wanted == "untied" and output.weight is matrix:
        output.weight = nn.Parameter(matrix.detach().clone(), requires_grad=matrix.requires_grad)
    elif wanted == "tied" and output.weight is not matrix:
        if output.weight.shape != matrix.shape:
            raise ModelError(
                f'tuning.embeddings="tied": the output embedding of {type(model).__name__} is '
                f"{list(output.weight.shape)}, its input embedding {list(matrix.shape)}"
            )
        output.weight = matrix
    model.config.tie_word_embeddings = wanted == "tied"


def draw_anew(model: PreTrainedModel, pattern: str | None, seed: int) -> set[str]:
    """Draw the weights whose names match as the model itself does when it is new, from the stream (seed, "reinit").

    Returns:
        All names of what was drawn.

    Raises:
        ModelError: if nothing matches, or the model has no initialiser for what does.
    """
    if pattern is None:
        return set()
    names = matching(model, pattern, "tuning.reinit")
    drawn = {name: param for aliases, param in tensors(model) for name in aliases[:1] if not names.isdisjoint(aliases)}
    for param in drawn.values():
        param.data.fill_(math.nan)
    with torch_seeded(derive(seed, "reinit")), _only(model, drawn.values()):
        model.initialize_weights()
    for name, param in drawn.items():
        if param.data.isnan().any():
            raise ModelError(f"tuning.reinit: {type(model).__name__} does not say how {name} begins")
    return names


@contextmanager
def _only(model: PreTrainedModel, drawn: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside the block, by transformers' own marks, only some weights are not initialised yet."""
    chosen = {id(param) for param in drawn}
    holders = [*model.modules(), *model.parameters(), *model.buffers()]
    before = [vars(holder).pop(_MARK, None) for holder in holders]
    for holder in (*model.parameters(), *model.buffers()):
        if id(holder) not in chosen:
            setattr(holder, _MARK, True)
    try:
        yield
    finally:
        for holder, mark in zip(holders, before, strict=True):
            vars(holder).pop(_MARK, None)
            if mark is not None:
                setattr(holder, _MARK, mark)


_MARK = "_is_hf_initialized"


def layers_of(model: PreTrainedModel) -> dict[str, nn.ModuleList]:
    """Return the stacks of layers by name: one, or an encoder's and a decoder's.

    Raises:
        ModelError: if there is none, as in ALBERT, where all layers are one.
    """
    from torch import nn

    config = model.config
    counts = {getattr(config, name, None) for name in ("num_hidden_layers", "num_layers", "num_decoder_layers")}
    counts |= {getattr(config, name, None) for name in ("encoder_layers", "decoder_layers")}
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{stack}.") for stack in found)
        if isinstance(module, nn.ModuleList) and not inside and len(module) in counts:
            found[name] = module
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no stack of {config.num_hidden_layers} layers of their own; "
            'choose weights by name with tuning.kind="pattern"'
        )
    return found


_BEFORE = re.compile(r"(^|[._])(embed\w*|wte|wpe|shared|word_embeddings\w*|position_embeddings|project_in)(\.|$)")


def is_embedding(name: str) -> bool:
    """Return whether a parameter outside the stacks of layers stands before them, by its name."""
    return _BEFORE.search(name) is not None
