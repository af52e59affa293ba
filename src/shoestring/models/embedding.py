"""Embeddings of texts, by any encoder: to find the training examples most like a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shoestring.errors import ModelError
from shoestring.hub import hub_mode
from shoestring.models.loading import load_longest_input, load_tokenizer
from shoestring.models.placing import pick_device
from shoestring.models.quiet import quiet
from shoestring.models.settings import MaskedModel, ModelSettings
from shoestring.seeds import torch_seeded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BATCH = 64


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    longest: int


class Embedder:
    """Embeds texts as the mean of an encoder's last hidden states, scaled to length 1; a `prompts.pool.Embed`.

        e(x) = m / |m|,   m = mean over the L tokens t of x of h_t

    The encoder is loaded when a text is asked for that is not known yet. Texts longer than it reads are cut.

    Args:
        name: a folder in the transformers format, or a hub id.
        revision: branch, tag or commit of a hub id.
        device: as `model.device`.

    Source: Reimers & Gurevych 2019 (Sentence-BERT), section 3, strategy MEAN.
    """

    def __init__(self, name: str, revision: str | None = None, device: str = "auto") -> None:
        # Any kind: it has no say in the tokenizer, nor in the bare encoder.
        self._settings: ModelSettings = MaskedModel(name=name, revision=revision, device=device)
        self._known: dict[str, np.ndarray] = {}
        self._loaded: _Loaded | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings [N, D], float32.

        Raises:
            ModelError: if the encoder cannot be loaded, or lacks weights.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._loaded = self._loaded or self._load()
            self._known.update(zip(new, _embedded(self._loaded, new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 0), np.float32)

    def release(self) -> None:
        """Give the encoder's memory back; known embeddings stay."""
        self._loaded = None

    def _load(self) -> _Loaded:
        from transformers import AutoModel

        settings = self._settings
        try:
            tokenizer, longest = load_tokenizer(settings), load_longest_input(settings)
            device = pick_device(settings.device)
        except ModelError as error:
            raise ModelError(f"prompt.demonstrations.filter: {error}") from error
        with torch_seeded(0), quiet(), hub_mode(settings.name):
            try:
                revision = settings.revision or "main"
                model, report = AutoModel.from_pretrained(settings.name, revision=revision, output_loading_info=True)
            except Exception as error:  # safetensors, pickle and each architecture have their own
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelError(
                    f"prompt.demonstrations.filter.model={settings.name!r}: cannot be loaded as an encoder: {first}"
                ) from error
        # The pooling layer makes something of the first token, which is not read here.
        if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
            raise ModelError(
                f"prompt.demonstrations.filter.model={settings.name!r}: the checkpoint lacks weights of "
                f"{type(model).__name__}: {', '.join(missing[:4])}"
            )
        own = tokenizer.model_max_length
        return _Loaded(model.to(device).eval(), tokenizer, min(own, longest or own))


def _embedded(loaded: _Loaded, texts: Sequence[str]) -> list[np.ndarray]:
    ids = [loaded.tokenizer.encode(text, verbose=False)[: loaded.longest] for text in texts]
    order = sorted(range(len(texts)), key=lambda index: len(ids[index]))
    found: list[np.ndarray] = [np.zeros(0)] * len(texts)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        means = _means(loaded, [ids[row] for row in rows]).cpu().numpy()
        for row, mean in zip(rows, means, strict=True):
            found[row] = mean
    return found


def _means(loaded: _Loaded, rows: Sequence[Sequence[int]]) -> Tensor:
    import torch

    device: torch.device = loaded.model.device
    width = max([1, *map(len, rows)])
    pad = loaded.tokenizer.pad_token_id or 0
    # It is masked out, so any would do that has an embedding, which an added "[PAD]" often lacks.
    pad = pad if pad < getattr(loaded.model.get_input_embeddings(), "num_embeddings", pad + 1) else 0
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    with torch.no_grad():
        hidden = loaded.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
    total = (hidden * mask[..., None]).sum(1)
    return torch.nn.functional.normalize(total / mask.sum(1, keepdim=True).clamp(min=1), dim=-1)
