"""Prompts for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from shoestring.data.example import Example
    from shoestring.models.settings import ModelKind
    from shoestring.prompts.encoding import EncodedPrompt, Encoder


def as_dict(kind: ModelKind, encoder: Encoder, tokenizer: PreTrainedTokenizerBase, example: Example) -> dict[str, Any]:
    """Return everything about one prompt as plain JSON values."""
    prompt = encoder.encode(example)
    return {
        "label": example.label,
        "label_id": prompt.label,
        "candidates": list(example.candidates),
        "right": list(prompt.right),
        "golds": list(prompt.golds or example.golds),
        "text": encoder.text(example),
        **_way(prompt, kind),
        "tokens": tokenizer.convert_ids_to_tokens(list(prompt.ids)),
        "mask_position": prompt.position,
        "taught": None if prompt.taught is None else _input(prompt.taught, kind),
        "variants": [_way(variant, kind) for variant in prompt.variants],
    }


def _way(prompt: EncodedPrompt, kind: ModelKind) -> dict[str, Any]:
    return {**_input(prompt, kind), "calibrations": [_input(without, kind) for without in prompt.calibrations]}


def _input(prompt: EncodedPrompt, kind: ModelKind) -> dict[str, Any]:
    """Return one input of the model.

    `option_ids` follow `ids`; `spans` are the tokens that are scored, [start, end), counted from the beginning of both
    together; of a masked model, the mask; of a sequence-to-sequence model, counted from the beginning of the answer.
    """
    return {
        "length": len(prompt.ids),
        "truncated": prompt.truncated,
        "position": prompt.position,
        "ids": list(prompt.ids),
        "segment_ids": list(prompt.segment_ids),
        "option_ids": [list(option) for option in prompt.options],
        "option_lengths": list(prompt.scored_lengths),
        "spans": _spans(prompt, kind),
    }


def _spans(prompt: EncodedPrompt, kind: ModelKind) -> list[list[int]]:
    if kind == "masked" and prompt.position is not None:
        return [[prompt.position, prompt.position + 1] for _ in prompt.options]
    before = 0 if kind == "seq2seq" else len(prompt.ids)
    ends = [before + len(option) for option in prompt.options]
    return [[end - scored, end] for end, scored in zip(ends, prompt.scored_lengths, strict=True)]
