"""Whether a model is causal: by its config, and by what it makes of two inputs that end otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.models.settings import ModelSettings

_LENGTH = 6
# Two rows of one forward pass differ by less of 1 + |logit|; a model that sees what follows gives quite another text.
_ROUNDING, _COARSE = 1e-3, 0.1


def check_direction(settings: ModelSettings, model: PreTrainedModel) -> None:
    """Refuse a model that sees what follows: transformers loads BERT and XLNet as causal ones with a mere warning.

    Raises:
        ModelError: if it does.
    """
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    config, name = model.config, type(model).__name__
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"model.name={settings.name!r}: {name} is not causal, every token of it sees the whole "
            'input; use model.kind="masked"'
        )
    if _looks_ahead(model):
        raise ModelError(
            f"model.name={settings.name!r}: {name} is not causal, its logits at a token change with the tokens behind "
            "it; choose another model, or if this was trained to see only what stands before a token, say so in its "
            'config.json (is_decoder=true; attn_type="uni" for XLNet)'
        )


def _looks_ahead(model: PreTrainedModel) -> bool:
    """Return whether logits of two inputs differ before these do; not if a model cannot read them as they are."""
    import torch

    from shoestring.models.scoring import logits_of

    size = int(model.config.get_text_config().vocab_size)
    # From the middle of the vocabulary: no special tokens.
    one = [(size // 2 + number) % size for number in range(_LENGTH)]
    other = [*one[:-1], (one[-1] + 1) % size]
    ids = torch.tensor([one, other], device=model.device)
    try:
        with torch.no_grad():
            logits = logits_of(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[:, :-1]
    except Exception:  # Whatever is wrong will be said of the first input that is really to be read.
        return False
    rounding = _ROUNDING if model.dtype in (torch.float32, torch.float64) else _COARSE
    return bool(((logits[0] - logits[1]).abs() > rounding * (1 + logits[0].abs())).any())
