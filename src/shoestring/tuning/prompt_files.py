"""Soft prompts in peft's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.errors import ModelError
from shoestring.tuning.adapters import TENSORS
from shoestring.tuning.delta import check_base, read_tensors, write_note, write_tensors
from shoestring.tuning.prompts import SLOT

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.catalog.prompt_tuning import PromptTuning

_NAME = "prompt_embeddings"


def save_prompt(settings: PromptTuning, model: PreTrainedModel, folder: Path) -> None:
    """Write vectors and config as peft does, and our note."""
    from peft import PromptTuningConfig, TaskType

    vectors = model.get_submodule(SLOT).get_parameter("embedding").detach()
    layers, heads = (getattr(model.config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        num_virtual_tokens=len(vectors),
        token_dim=vectors.shape[1],
        num_transformer_submodules=1,
        num_layers=layers,
        num_attention_heads=heads,
        base_model_name_or_path=model.name_or_path,
        inference_mode=True,
    )
    write_tensors(folder, {_NAME: vectors}, TENSORS)
    config.save_pretrained(str(folder))
    write_note(folder, settings.model_dump(mode="json"), model, {f"{SLOT}.embedding"})


def restore_prompt(settings: PromptTuning, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put a saved prompt into its base model.

    Raises:
        ModelError: if there is none in the folder, or it has another shape.
    """
    check_base(model, folder)
    vectors = read_tensors(folder, TENSORS).get(_NAME)
    tuned = settings.apply(model, 0)
    own = tuned.get_submodule(SLOT).get_parameter("embedding")
    if vectors is None or vectors.shape != own.shape:
        found = "no" if vectors is None else str(list(vectors.shape))
        raise ModelError(f"{folder}/{TENSORS} holds {found} {_NAME}, where {list(own.shape)} are needed")
    own.data.copy_(vectors)
    return tuned
