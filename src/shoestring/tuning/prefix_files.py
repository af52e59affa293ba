"""Prefixes of causal models in peft's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from shoestring.errors import ModelError
from shoestring.tuning.adapters import TENSORS
from shoestring.tuning.attention import SLOT
from shoestring.tuning.delta import write_tensors
from shoestring.tuning.prefixes import KeysValues, plain_prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.catalog.prefix import Prefix

_NAME = "prompt_embeddings"


def save_peft_prefix(settings: Prefix, model: PreTrainedModel, folder: Path) -> None:
    """Write the prefixes of a causal model as peft does, so that `PeftModel.from_pretrained(base, folder)` loads them.

    peft keeps one vector a virtual token, the keys and values [heads, size] of all layers one behind the other, and
    puts them into the cache that generation uses: the input is read as if real tokens stood before it.

    Args:
        settings: what the prefixes were made by.
        model: the model with its prefixes.
        folder: where to write.

    Raises:
        ModelError: if peft would read them otherwise, or not at all.
    """
    from peft import PrefixTuningConfig, TaskType

    if problem := _problem(settings, model):
        raise ModelError(f'tuning.kind="prefix": peft cannot load this one: {problem}')
    with plain_prefixes(model), torch.no_grad():
        found = [cast("KeysValues", module) for name, module in model.named_modules() if name.endswith(f".{SLOT}")]
        layers = torch.stack([part.transpose(0, 1) for one in found for part in (one.key, one.value)], 1)
    tokens, parts, heads, size = layers.shape
    config = PrefixTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=tokens,
        num_layers=parts // 2,
        num_attention_heads=heads,
        token_dim=heads * size,
        encoder_hidden_size=heads * size,
        num_transformer_submodules=1,
        base_model_name_or_path=model.name_or_path,
        inference_mode=True,
    )
    write_tensors(folder, {_NAME: layers.reshape(tokens, parts * heads * size)}, TENSORS)
    config.save_pretrained(str(folder))


def _problem(settings: Prefix, model: PreTrainedModel) -> str | None:
    config = model.config
    if config.is_encoder_decoder or not model.can_generate():
        return "it has prefixes of models that write, and have a decoder alone"
    if settings.shift is False:
        return "it moves the positions of the input, and this run had tuning.shift=false"
    if any(f".{SLOT}." not in name for name, param in model.named_parameters() if param.requires_grad):
        return "weights of the model itself were trained beside the prefix"
    shapes = {module.key.shape for module in model.modules() if isinstance(module, KeysValues)}
    if len(shapes) > 1:
        return "layers have keys of different shapes"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"the window of attention of {config.model_type} slides past what peft puts before the input"
    return None
