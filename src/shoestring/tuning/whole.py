"""Whole models, in transformers' format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.errors import ModelError
from shoestring.models.quiet import quiet
from shoestring.tuning.delta import write_note

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.choosing import Choosing


def save_whole(tuning: Choosing, model: PreTrainedModel, folder: Path) -> None:
    """Write a model as transformers does, with every tensor of a model whose embeddings were untied.

    Some architectures tie more than the embeddings (RoBERTa two biases of its head), and transformers, told by the
    config that nothing is tied, would look for each of them.
    """
    state = None
    if not getattr(model.config, "tie_word_embeddings", True):
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    names = {name for name, _ in model.named_parameters()}
    write_note(folder, tuning.model_dump(mode="json"), model, names)


def restore_whole(tuning: Choosing, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Give a model every weight of a saved one.

    Raises:
        ModelError: if the folder holds no model of its class.
    """
    try:
        with quiet():
            loader: Any = type(model)
            saved, report = loader.from_pretrained(folder, dtype=model.dtype, output_loading_info=True)
    except Exception as error:  # safetensors, json and each architecture have their own
        raise ModelError(f"{folder} cannot be loaded as a {type(model).__name__}: {error}") from error
    tuning.prepare(model)
    weights = dict(saved.named_parameters(remove_duplicate=False))
    for name, param in model.named_parameters():
        if name in report["missing_keys"] or name not in weights or weights[name].shape != param.shape:
            raise ModelError(f"{folder} has no {name} as {type(model).__name__} has it")
        param.data.copy_(weights[name].data)
    return model.requires_grad_(True).eval()
