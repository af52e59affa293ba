"""Where a model is put, and in which integers: arguments for transformers' loading."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from shoestring.errors import MissingPackageError, ModelError, suggest
from shoestring.models.quiet import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from shoestring.models.settings import ModelSettings

_FULL = 0.8
"""Share of a device's free memory that weights may take; the rest is for activations."""


def pick_device(name: str) -> torch.device:
    """Return the torch device called `name`; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ModelError: if there is no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        allowed = ("auto", "cpu", "cuda", "mps")
        meant = name.casefold().replace("gpu", "cuda")  # By its letters it would be nearest to "cpu".
        raise ModelError(f"model.device: there is no device {name!r}{suggest(meant, allowed)}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"model.device={name!r}: this machine has no CUDA device; use model.device=auto or cpu")
    if device.index:
        # The Trainer would move the model to the first device that it sees.
        remedy = f"CUDA_VISIBLE_DEVICES={device.index} with model.device=cuda"
        raise ModelError(f"model.device={name!r}: a run uses the first device it sees; choose another by {remedy}")
    return device


def placing(settings: ModelSettings, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is told of a model's place and integers; nothing for an ordinary one.

    Integers are made while weights are loaded, on the device where they stay. With `model.device="auto"`, a model whose
    weights are too large for the first of several CUDA devices is spread over all of them by accelerate.

    Raises:
        MissingPackageError: if bitsandbytes is not there.
        ModelError: if it is not for this device.
    """
    arguments: dict[str, Any] = {}
    if settings.quantization is not None:
        arguments |= {"quantization_config": _quantization(settings, device), "device_map": {"": device}}
    if settings.device == "auto" and device.type == "cuda" and is_spread(settings):
        arguments["device_map"] = "auto"
    return arguments


def is_spread(settings: ModelSettings) -> bool:
    """Return whether weights need more than the first of several CUDA devices has room for."""
    import torch

    if torch.cuda.device_count() <= 1:
        return False
    free, _ = torch.cuda.mem_get_info(0)
    return weight_bytes(settings) > _FULL * free


def refuse_backward(model: PreTrainedModel, what: str) -> None:
    """Refuse gradients where bitsandbytes has none.

    Raises:
        ModelError: for 4 bits on a processor, whose products pass no gradient on, or a wrong one, as of version 0.50.
    """
    if getattr(model, "is_loaded_in_4bit", False) and model.device.type == "cpu":
        raise ModelError(
            f"{what}: with model.quantization='4bit' bitsandbytes computes no gradients on a processor; use '8bit', a "
            "CUDA device, or a zeroth-order method"
        )


def weight_bytes(settings: ModelSettings) -> int:
    """Return the bytes of a model's weights as they will be loaded, without loading them."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(settings.name, revision=settings.revision or "main")
    with quiet(), torch.device("meta"):
        model = getattr(transformers, settings.loader).from_config(config)
    whole: int = 8 * getattr(torch, settings.dtype).itemsize
    bits = whole if settings.quantization is None else int(settings.quantization[0])
    return sum(param.numel() for param in model.parameters()) * bits // 8


def _quantization(settings: ModelSettings, device: torch.device) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    given = f"model.quantization={settings.quantization!r}"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError(f"{given} needs bitsandbytes: pip install 'shoestring[quantization]'")
    if device.type not in ("cuda", "cpu"):
        raise ModelError(
            f"{given}: bitsandbytes computes on CUDA devices and processors, not on {device.type}; use "
            "model.device=cpu, or leave it out"
        )
    if settings.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, settings.dtype)
    )
