"""Where architectures keep what tunings look for: the one table of their names for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_BEFORE = r"(?:.*\.)?"

KEYS_VALUES = _BEFORE + (
    r"(?:attention\.self\.(?:key|value)|attention\.(?:key|value|k_lin|v_lin)|(?:self_attn|encoder_attn)\.[kv]_proj"
    r"|(?:SelfAttention|EncDecAttention)\.[kv]|attn\.(?:c_attn|Wqkv)|(?:self_attention|attention)\.query_key_value)"
)
"""Projections to keys and values, where an architecture has them apart; else to queries too."""

ATTENTION_OUT = _BEFORE + (
    r"(?:attention\.(?:output\.dense|dense|out_lin)|self_attn\.(?:out_proj|o_proj)|self_attention\.dense"
    r"|attn\.(?:c_proj|Wo)|SelfAttention\.o)"
)
"""The last layer of self-attention, in front of the residual sum."""

FEED_FORWARD_IN = _BEFORE + (
    r"(?:intermediate\.dense|ffn\.lin1|ffn|fc1|mlp\.(?:gate_proj|c_fc|dense_h_to_4h|Wi)|DenseReluDense\.(?:wi|wi_0))"
)
"""The first layer of the feed-forward network; of two that read the same, the gate."""

FEED_FORWARD_OUT = _BEFORE + (
    r"(?:(?<!attention\.)output\.dense|ffn\.lin2|ffn_output|fc2|mlp\.(?:down_proj|c_proj|dense_4h_to_h|Wo)"
    r"|DenseReluDense\.wo)"
)
"""The last layer of the feed-forward network, in front of the residual sum."""

CROSS_ATTENTION = re.compile(r"cross|encdec|encoder_attn", re.IGNORECASE)
"""In names of attention over an encoder's output."""

LORA_TARGETS = {
    "distilbert": ["q_lin", "v_lin"],
    "albert": ["query", "value"],
    "modernbert": ["Wqkv"],
}
"""Query and value projections of architectures that peft has no default for."""


def modules_at(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """Return the layers with weights of their own whose whole names match, by name."""
    spelled = re.compile(pattern)
    return {
        name: module
        for name, module in model.named_modules()
        if spelled.fullmatch(name) and getattr(module, "weight", None) is not None
    }
