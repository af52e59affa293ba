"""The modules that the published code of PET scaling inserts: LoRA beside queries and values, two adapters a block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.errors import ModelError
from shoestring.seeds import derive, torch_seeded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RANK, ALPHA, WIDTH, TOKENS = 8, 16.0, 24, 100
_MARKS = ("lora", "adapter", "soft_prompt")
_PAIRS = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v"))
_FUSED = ("query_key_value", "c_attn")


class LowRank(nn.Module):
    """(alpha / r) B A x, zero at first."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(RANK, ins))
        self.lora_B = nn.Parameter(torch.zeros(outs, RANK))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to a projection."""
        return functional.linear(functional.linear(x, self.lora_A), self.lora_B) * (ALPHA / RANK)

    def beside(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """Take part in the forward pass of a projection."""
        return out + self(args[0])


@dataclass(frozen=True)
class Fused:
    """LoRA beside one projection to queries, keys and values: of all heads one after the other, or head by head."""

    query: LowRank
    value: LowRank
    heads: int | None

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """Take part in the forward pass of the projection."""
        query, value = self.query(args[0]), self.value(args[0])
        if self.heads is not None:  # [heads, (query, key, value), head size]
            shape = (*query.shape[:-1], self.heads, 1, query.shape[-1] // self.heads)
            query, value = query.view(shape), value.view(shape)
            return out + torch.cat([query, torch.zeros_like(query), value], -2).flatten(-3)
        return out + torch.cat([query, torch.zeros_like(query), value], -1)


class Adapter(nn.Module):
    """x + up(gelu(down(x))), the identity at first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.modulelist = nn.Sequential()
        self.modulelist.add_module("down_proj", nn.Linear(size, WIDTH))
        self.modulelist.add_module("non_linear", nn.GELU("tanh"))
        self.modulelist.add_module("up_proj", nn.Linear(WIDTH, size))
        down, up = self.modulelist.get_submodule("down_proj"), self.modulelist.get_submodule("up_proj")
        nn.init.normal_(down.get_parameter("weight"), std=0.01)
        for zero in (down.get_parameter("bias"), up.get_parameter("weight"), up.get_parameter("bias")):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states of the same shape."""
        return x + self.modulelist(x)

    def behind(self, module: nn.Module, args: Any, out: Any) -> Any:
        """Take part in a forward pass that returns hidden states, or a tuple that begins with them."""
        return (self(out[0]), *out[1:]) if isinstance(out, tuple) else self(out)

    def beside(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take part in BLOOM's feed-forward network, which is given the residual stream as a second argument."""
        return (args[0], self(args[1]), *args[2:])


def insert_published(model: PreTrainedModel, seed: int) -> list[str]:
    """Insert what the published code does, drawn from the stream (seed, "apet", "inserted"), under the names it gives.

    A model that has LoRA, adapters or virtual tokens already, by the names of its parameters, keeps these alone.

    Source: yushengsu-thu/PET_Scaling, modeling_bloom.py:211-280, 508-640, modeling_t5.py:358-424, 766-950.
    Differs: the outputs are those of the base model at first: up-projections begin at 0, where the published ones
        are N(0, 0.01^2). What is chosen always acts: the published BLOOM applies LoRA only where A of the query's is
        chosen, and takes that one for the values too; it applies an adapter only where its down-projection is chosen.
        Of T5, where the paper's budgets count LoRA of self-attentions only, the published code inserts it in
        cross-attentions as well, and so does this. Blocks other than BLOOM's and T5's have the first adapter behind
        their attention, before the residual sum.

    Returns:
        The names of the parameters that were added.

    Raises:
        ModelError: if there are no attentions with queries and values to insert LoRA at.
    """
    before = {name for name, _ in model.named_parameters()}
    if any(mark in name for name in before for mark in _MARKS):
        return []
    attentions = list(_attentions(model))
    if not attentions:
        raise ModelError(
            f'tuning.compat="pet-scaling": {type(model).__name__} has no attention whose queries and values are known '
            "here; insert LoRA or adapters first, under names that hold these words"
        )
    with torch_seeded(derive(seed, "apet", "inserted")):
        if model.config.model_type in ("t5", "mt5", "umt5"):
            _complete_t5(model)
        for name, attention in attentions:
            _beside_projections(model, model.get_submodule(name), attention)
        for block in dict.fromkeys(_block(model, name) for name, _ in attentions):
            inside = next(name for name, _ in attentions if _block(model, name) == block)
            _adapters(model, block, inside)
    return [name for name, _ in model.named_parameters() if name not in before]


def published_size(model: PreTrainedModel, scale: str) -> int:
    """Return the size of a published tuning ("lora", "adapter", "soft_prompt" or "bitfit") of a model.

    What `insert_published` inserts must be in it.

    LoRA's is that of self-attentions, an adapter's that of all of them, a prompt's 100 tokens, BitFit's every bias of
    the backbone.
    """
    sizes = {name: param.numel() for name, param in model.named_parameters()}
    if scale == "lora":
        return sum(size for name, size in sizes.items() if "lora" in name and "EncDecAttention" not in name)
    if scale == "adapter":
        return sum(size for name, size in sizes.items() if "adapter" in name)
    if scale == "soft_prompt":
        return TOKENS * model.config.hidden_size
    own = {name: size for name, size in sizes.items() if not any(mark in name for mark in _MARKS)}
    return sum(size for name, size in own.items() if "bias" in name)


def _attentions(model: nn.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of every attention, and of its projections to queries and values, or of the fused one."""
    for name, module in model.named_modules():
        children = dict(module.named_children())
        pair = next((pair for pair in _PAIRS if all(one in children for one in pair)), None)
        fused = next((one for one in _FUSED if one in children), None)
        if pair is not None:
            yield name, pair
        elif fused is not None:
            yield name, (fused,)


def _beside_projections(model: PreTrainedModel, attention: nn.Module, names: tuple[str, ...]) -> None:
    projections = [attention.get_submodule(name) for name in names]
    weight = projections[0].get_parameter("weight")
    size = model.config.hidden_size
    if len(projections) == 1:
        pairs = [LowRank(size, size), LowRank(size, size)]
    else:
        shapes = [one.get_parameter("weight").shape for one in projections]
        pairs = [LowRank(ins, outs) for outs, ins in shapes]
    query, value = (one.to(weight.device, weight.dtype) for one in pairs)
    attention.add_module("q_lora", query)
    attention.add_module("v_lora", value)
    if len(projections) == 1:
        heads = model.config.num_attention_heads if names[0] == "query_key_value" else None
        projections[0].register_forward_hook(Fused(query, value, heads))
    else:
        projections[0].register_forward_hook(query.beside)
        projections[1].register_forward_hook(value.beside)


def _block(model: nn.Module, name: str) -> str:
    """Return the name of the block that a module is in: the member of the outermost list of modules around it."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        if isinstance(model.get_submodule(".".join(parts[:length])), nn.ModuleList):
            return ".".join(parts[: length + 1])
    return name


def _adapters(model: PreTrainedModel, name: str, attention: str) -> None:
    """Add the two adapters of a block whose first attention is called `attention`."""
    block = model.get_submodule(name)
    like = next(block.parameters())
    first, second = (Adapter(model.config.hidden_size).to(like.device, like.dtype) for _ in range(2))
    parts = attention.removeprefix(name).strip(".").split(".")
    inner = block.get_submodule(parts[0]) if parts[0] else block
    if isinstance(inner, nn.ModuleList):
        inner = inner.get_submodule(parts[1])
    if model.config.model_type == "bloom":
        block.get_submodule("mlp").register_forward_pre_hook(first.beside)
    else:
        inner.register_forward_hook(first.behind)
    block.register_forward_hook(second.behind)
    block.add_module("attn_adapter", first)
    block.add_module("fc2_adapter", second)


def _complete_t5(model: PreTrainedModel) -> None:
    """Give T5 what the published one has: a bias everywhere, position biases in cross-attentions; all zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_features))
    for name, module in model.named_modules():
        attention: Any = module
        if name.endswith("EncDecAttention") and not attention.has_relative_attention_bias:
            table = nn.Embedding(attention.relative_attention_num_buckets, attention.n_heads)
            nn.init.zeros_(table.weight)
            attention.relative_attention_bias = table.to(attention.q.weight.device, attention.q.weight.dtype)
            attention.has_relative_attention_bias = True
