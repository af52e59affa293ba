"""What a kernel depends on, in a form that can be compared and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.kernels.outputs import Items, Outputs, uid

_DIGITS = 32
_ANSWERS = ("labels",)  # in a batch, but no score depends on it


def key_of(description: Mapping[str, Any]) -> str:
    """Return the hash of a description."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def model_digest(model: nn.Module) -> str:
    """Return the hash of everything a model computes with: class, config, every weight and buffer, bit for bit."""
    config = getattr(model, "config", None)
    sha = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}\n".encode())
    if config is not None and hasattr(config, "to_dict"):
        sha.update(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
    _add(sha, [*model.named_parameters(), *model.named_buffers()])
    return sha.hexdigest()[:_DIGITS]


def items_digest(outputs: Outputs, items: Items) -> str:
    """Return the hash of where examples come from and of what the model is given of each."""
    sha = hashlib.sha256()
    for item in items:
        sha.update(f"{uid(item)}\n".encode())
        batch = outputs.collate([item])
        _add(sha, sorted((name, value) for name, value in batch.items() if name not in _ANSWERS))
    return sha.hexdigest()[:_DIGITS]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of named tensors."""
    sha = hashlib.sha256()
    _add(sha, sorted(tensors.items()))
    return sha.hexdigest()[:_DIGITS]


def _add(sha: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(whole.view(torch.uint8).numpy().data)
