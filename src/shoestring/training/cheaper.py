"""What makes training steps cheaper, put on a model and taken off it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


def is_in_integers(model: PreTrainedModel) -> bool:
    """Return whether most matrices of a model are kept in integers."""
    return bool(getattr(model, "is_quantized", False))


def save_trained(model: PreTrainedModel, folder: Path) -> None:
    """Write what is trained as a checkpoint; the Trainer puts it back into a model that has the rest.

    bitsandbytes does not load its own integers back into a model that has been used.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: param.detach().contiguous() for name, param in model.named_parameters() if param.requires_grad}
    save_file(trained, folder / "model.safetensors", {"format": "pt"})


@contextmanager
def trainable_beside_integers(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, the Trainer takes a model in integers for one with adapters.

    It refuses others, lest integers be trained. Tunings see to that: what they train is not in integers, whether peft
    put it there or not.
    """
    mark = "_hf_peft_config_loaded"
    before = vars(model).get(mark)
    if is_in_integers(model):
        vars(model)[mark] = True
    try:
        yield
    finally:
        vars(model).pop(mark, None)
        if before is not None:
            vars(model)[mark] = before
