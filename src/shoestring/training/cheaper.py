"""What makes training steps cheaper, put on a model and taken off it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ENABLE, _DISABLE = "activation_checkpointing_enable", "activation_checkpointing_disable"
_EARLIER = {_ENABLE: "gradient_checkpointing_enable", _DISABLE: "gradient_checkpointing_disable"}


@contextmanager
def checkpointing(model: PreTrainedModel, *, wanted: bool) -> Iterator[None]:
    """Inside the block, where it is wanted, keep the inputs of layers alone in training, and compute the rest again."""
    if wanted:
        _call(model, _ENABLE, {"use_reentrant": False})
    try:
        yield
    finally:
        if wanted:
            _call(model, _DISABLE)


def _call(model: PreTrainedModel, name: str, *arguments: Any) -> None:
    # Releases of transformers before 5.2 or so have the earlier names alone, later ones warn of them.
    method: Any = getattr(model, name, None)
    (method or getattr(model, _EARLIER[name]))(*arguments)


@contextmanager
def in_own_precision(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, without the mixed precision that accelerate puts around a model's forward."""
    original = vars(model).get("_original_forward")
    if original is None:
        yield
        return
    mixed = vars(model)["forward"]
    vars(model)["forward"] = original
    try:
        yield
    finally:
        vars(model)["forward"] = mixed


def take_off_mixed_precision(model: PreTrainedModel) -> None:
    """Undo what accelerate puts around a model's forward, as it was before."""
    original = vars(model).pop("_original_forward", None)
    if original is not None:
        vars(model).pop("forward")
        # Unless it was the class's own.
        if original != model.forward:
            vars(model)["forward"] = original
