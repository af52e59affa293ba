"""Pretraining of the two tiny models: RoBERTa by filling in masks, Llama by predicting the next token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.config import Settings
from shoestring.demo.tokenizer import BOS, EOS, MASK, PAD, SPECIAL_TOKENS, Family
from shoestring.seeds import derive, torch_seeded, torch_stream

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedModel, RobertaForMaskedLM

Report = Callable[[str, int, int], None]
"""Called as progress(what is done, steps done, steps in all)."""


class ModelSettings(Settings):
    """Size and training of one tiny model."""

    hidden: PositiveInt = 64
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    max_tokens: PositiveInt = Field(default=64, ge=16)
    """Longest input, special tokens included."""
    init_std: PositiveFloat = 0.05
    """Standard deviation of the initial weight matrices."""
    steps: PositiveInt = 1500
    batch_size: PositiveInt = 64
    """Documents of one step."""
    lr: PositiveFloat = 3e-3
    mask_share: float = Field(default=0.25, gt=0, lt=0.5)
    """Mean share of the tokens that the masked model must fill in; each document has its own, up to twice this."""
    seed: int = 0


def pretrain(
    family: Family, rows: Sequence[Sequence[int]], vocabulary: int, settings: ModelSettings, progress: Report
) -> PreTrainedModel:
    """Return a model of the family trained on `rows` (token ids without special tokens), in eval mode.

    AdamW with a linear warm-up over the first 5% of the steps and a linear decay to zero, gradients clipped to norm 1,
    float32, no dropout. The weights depend on the arguments only (given the machine's arithmetic); the global random
    generators are left as they were.
    """
    import torch

    model = build(family, vocabulary, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (settings.steps - step) / max(1, settings.steps - warm))
    )
    loss_of = _loss(family, model, settings)
    for step, batch in enumerate(_batches(family, rows, settings)):
        optimizer.zero_grad()
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(f"pretraining the {family} model", step + 1, settings.steps)
    return model.eval()


def build(family: Family, vocabulary: int, settings: ModelSettings) -> RobertaForMaskedLM | LlamaForCausalLM:
    """Return an untrained model of the family, initialised from `settings.seed`."""
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForMaskedLM

    shape = {
        "vocab_size": vocabulary,
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "initializer_range": settings.init_std,
        "bos_token_id": BOS,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "tie_word_embeddings": True,
    }
    # transformers initialises from the global generator, so it is lent a seed and put back.
    with torch_seeded(derive(settings.seed, "demo", family, "weights")):
        if family == "masked":
            config = RobertaConfig(
                **shape,
                intermediate_size=4 * settings.hidden,
                max_position_embeddings=settings.max_tokens + PAD + 1,
                type_vocab_size=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
            return RobertaForMaskedLM(config).train()
        config = LlamaConfig(
            **shape, intermediate_size=3 * settings.hidden, max_position_embeddings=settings.max_tokens
        )
        return LlamaForCausalLM(config).train()


def _batches(family: Family, rows: Sequence[Sequence[int]], settings: ModelSettings) -> Iterator[torch.Tensor]:
    """Yield `settings.steps` padded batches of token ids [N, L], going through the rows as often as needed."""
    import torch

    room = settings.max_tokens - 2
    whole = [torch.tensor([BOS, *row[:room], EOS]) for row in rows]
    lengths = torch.tensor([len(row) for row in whole], dtype=torch.float32)
    stream = torch_stream(settings.seed, "demo", family, "batches")
    left = settings.steps
    while left:
        # Documents of like length share a batch, which saves padding; the jitter mixes them anew every time round.
        ranks = (lengths + 4 * torch.rand(len(whole), generator=stream)).argsort()
        groups = ranks.split(settings.batch_size)
        for index in torch.randperm(len(groups), generator=stream).tolist()[:left]:
            batch = [whole[i] for i in groups[index].tolist()]
            yield torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=PAD)
            left -= 1


def _loss(family: Family, model: PreTrainedModel, settings: ModelSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the pretraining loss of a batch of token ids [N, L]; logits are made only where they are read."""
    import torch
    from torch.nn.functional import cross_entropy

    body, head = model.base_model, model.get_submodule("lm_head")
    stream = torch_stream(settings.seed, "demo", family, "masks")

    def masked(ids: torch.Tensor) -> torch.Tensor:
        share = 2 * settings.mask_share * torch.rand(len(ids), 1, generator=stream)
        draw = torch.rand(ids.shape, generator=stream)
        chosen = (draw < share) & (ids >= len(SPECIAL_TOKENS))
        # One chosen token in ten stays as it is, so that the model also learns to read tokens it is asked about.
        seen = ids.masked_fill(chosen & (draw < 0.9 * share), MASK)
        states = body(seen, attention_mask=(ids != PAD).long()).last_hidden_state
        # A batch with nothing chosen has loss 0, not 0/0.
        return cross_entropy(head(states[chosen]), ids[chosen], reduction="sum") / chosen.sum().clamp(min=1)

    def causal(ids: torch.Tensor) -> torch.Tensor:
        inputs, targets = ids[:, :-1], ids[:, 1:]
        read = targets != PAD
        states = body(inputs, attention_mask=(inputs != PAD).long(), use_cache=False).last_hidden_state
        return cross_entropy(head(states[read]), targets[read])

    return masked if family == "masked" else causal
