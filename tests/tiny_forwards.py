"""Tiny models of all kinds with a closure that gives one loss an example: what engines are compared on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny
from shoestring.models.quiet import quiet
from shoestring.zeroth.closures import PerExample

VOCABULARY = 60
MASKED = ("roberta", "bert", "distilbert", "albert", "electra", "modernbert")
CAUSAL = ("opt", "gpt2", "llama", "qwen3", "gemma2", "mistral", "bloom")
_SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 1},
    "bloom": {"hidden_size": 16, "n_head": 2, "n_layer": 1},
    "distilbert": {"dim": 16, "n_heads": 2, "hidden_dim": 24, "n_layers": 1},
    "opt": {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "ffn_dim": 24,
            "word_embed_proj_dim": 16},
    "modernbert": {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24},
}  # fmt: skip
_USUAL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24}


@dataclass(frozen=True)
class Forward:
    """A model in eval mode, the losses [N] of a batch, and a batch."""

    model: nn.Module
    losses: Callable[[dict[str, Tensor]], Tensor]
    batch: dict[str, Tensor]

    def closure(self, kind: str) -> Callable[[], Tensor]:
        """Return the losses as a closure that may be repeated ("per example"), or as one that may not ("plain")."""
        whole = PerExample(self.losses, [self.batch])
        return whole if kind == "per example" else lambda: whole()


class WithPrefix(nn.Module):
    """A frozen model that reads a few trained vectors before its own embeddings, without any library's help."""

    def __init__(self, model: nn.Module, length: int = 2) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        stream = torch.Generator().manual_seed(3)
        self.prefix = nn.Parameter(torch.randn(1, length, 16, generator=stream))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        embedded = self.model.get_input_embeddings()(input_ids)  # pyright: ignore[reportCallIssue]
        prefix = self.prefix.expand(len(input_ids), -1, -1)
        mask = torch.cat([torch.ones_like(attention_mask[:, : self.prefix.shape[1]]), attention_mask], 1)
        return self.model(inputs_embeds=torch.cat([prefix, embedded], 1), attention_mask=mask)


def forward(architecture: str, tuning: str = "full", dtype: torch.dtype = torch.float64, count: int = 3) -> Forward:
    """Return a forward pass of a tiny model whose weights are all ("full"), or of which only an adapter is, trained."""
    kind = "masked" if architecture in MASKED else "causal"
    model: Any = _t5() if architecture == "t5" else _built(architecture, kind)
    model = _tuned(model, architecture, tuning).eval().to(dtype)
    stream = torch.Generator().manual_seed(0)
    mask = torch.ones(count, 7, dtype=torch.long)
    mask[1, 5:] = 0
    batch = {"input_ids": torch.randint(5, VOCABULARY, (count, 7), generator=stream), "attention_mask": mask}
    if architecture == "t5":
        batch["labels"] = torch.randint(5, VOCABULARY, (count, 4), generator=stream)
    else:
        batch["labels"] = torch.randint(5, VOCABULARY, (count,), generator=stream)

    def losses(batch: dict[str, Tensor]) -> Tensor:
        if architecture == "t5":
            logits = model(**batch).logits
            found = functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="none")
            return found.view(len(logits), -1).mean(1)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return functional.cross_entropy(logits[:, 4], batch["labels"], reduction="none")

    return Forward(model, losses, batch)


def _built(architecture: str, kind: str) -> Any:
    return tiny.build_model(architecture, kind, vocab_size=VOCABULARY, **_SMALL.get(architecture, _USUAL))


def _t5() -> nn.Module:
    import transformers

    config = transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    with torch.random.fork_rng(devices=[]), quiet():
        torch.random.manual_seed(0)
        return transformers.T5ForConditionalGeneration(config)


_QUERIES = {"gpt2": ["c_attn"], "roberta": ["query", "value"], "bert": ["query", "value"], "t5": ["q", "v"]}


def _tuned(model: Any, architecture: str, tuning: str) -> nn.Module:
    import peft

    if tuning == "full":
        return model
    if tuning == "vectors":
        return WithPrefix(model)
    with torch.random.fork_rng(devices=[]), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.random.manual_seed(1)
        if tuning == "prefix":
            return peft.get_peft_model(model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
        targets = _QUERIES.get(architecture, ["q_proj", "v_proj"])
        return peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
