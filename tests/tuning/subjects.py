"""Every tuning with settings fit for tiny models, tiny models of every architecture, and a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import tiny
from shoestring.models.quiet import quiet
from shoestring.tuning.base import TUNINGS
from shoestring.zeroth.closures import PerExample

# Settings of the tunings that cannot do without, or whose defaults are made for large models; of others, none.
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"width": 3},
    "lora": {"r": 2},
    "pattern": {"pattern": r"(query|q_proj|c_attn|SelfAttention\.q|q_lin|Wqkv)"},
    "peft": {"method": "lora", "fields": {"r": 2, "init_lora_weights": "gaussian"}},
    "prefix": {"length": 3},
    "prompt-tuning": {"length": 3},
}
WITHOUT_BIASES = {"llama", "qwen3", "mistral", "gemma", "gemma2", "t5"}
MASKED = ("roberta", "bert")
CAUSAL = ("opt", "llama", "qwen3", "mistral", "gemma", "gpt2")
ARCHITECTURES = (*MASKED, *CAUSAL, "t5", "bart")
IDS = torch.tensor([[0, 8, 9, 10, 11, 12, 2], [0, 20, 21, 22, 2, 1, 1], [0, 30, 31, 32, 33, 2, 1]])


def tuning(name: str, **changes: Any) -> Any:
    """Return a tuning with settings fit for tiny models."""
    return TUNINGS.get(name)(**(SETTINGS.get(name, {}) | changes))


def possible(name: str, architecture: str) -> bool:
    """Return whether an architecture has what a tuning trains."""
    return not (name == "bitfit" and architecture in WITHOUT_BIASES)


def kind_of(architecture: str) -> str:
    """Return the family that an architecture's language model is of."""
    return "masked" if architecture in tiny.MASKED else "seq2seq" if architecture in tiny.SEQ2SEQ else "causal"


def model_of(architecture: str, kind: str | None = None, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Return a tiny random language model, or one with a classification head."""
    return tiny.build_model(architecture, kind or kind_of(architecture), seed).to(dtype)


def batch(model: Any) -> dict[str, Tensor]:
    """Return inputs of a model: three texts of different lengths, padded on the right."""
    given = {"input_ids": IDS, "attention_mask": (IDS != 1).long()}
    return given | ({"decoder_input_ids": IDS[:, :4]} if model.config.is_encoder_decoder else {})


def logits(model: Any, given: dict[str, Tensor] | None = None) -> Tensor:
    """Return logits, without gradients."""
    with torch.no_grad():
        return model(**(given or batch(model))).logits


def losses(model: Any, given: dict[str, Tensor]) -> Tensor:
    """Return a loss an example [N]: of the second place, or of a head's first class."""
    found = model(**given).logits
    found = found[:, 1] if found.ndim == 3 else found
    target = torch.full((len(found),), 1 % found.shape[1], device=found.device)
    return functional.cross_entropy(found, target, reduction="none")


def closure(model: Any) -> PerExample:
    """Return the losses as a closure that may be evaluated on a repeated batch."""
    return PerExample(lambda given: losses(model, given), [batch(model)])


def trained(model: torch.nn.Module) -> dict[str, int]:
    """Return the sizes of all that is trained, by name."""
    return {name: param.numel() for name, param in model.named_parameters() if param.requires_grad}


def disturb(model: torch.nn.Module, std: float = 0.3) -> None:
    """Give everything that is trained other values."""
    for number, param in enumerate(param for param in model.parameters() if param.requires_grad):
        torch.nn.init.normal_(param, std=std, generator=torch.Generator().manual_seed(number))


def checkpointed(model: Any) -> Any:
    """Put a model into training with gradient checkpointing, but without dropout."""
    model.train()
    for module in model.modules():
        for name in ("p", "dropout", "attention_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    with quiet():
        model.activation_checkpointing_enable()
    return model
