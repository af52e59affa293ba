"""A byte-level BPE tokenizer trained on the generated corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In RoBERTa's order: ids 0 to 4."""
BOS, PAD, EOS, UNK, MASK = range(5)
Family = Literal["masked", "causal"]


def train(corpus: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE on `corpus`; every byte is in the vocabulary, so any text can be encoded.

    Words keep the space before them (`" great"` is one token), as RoBERTa's and GPT-2's do.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, family: Family, max_tokens: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers' class: masked models read `<s> text </s>`, causal ones `<s> text`."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_str(tokenizer.to_str())
    close = " </s>" if family == "masked" else ""
    own.post_processor = processors.TemplateProcessing(
        single=f"<s> $A{close}", pair=f"<s> $A{close} $B{close}", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    if family == "masked":
        special |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=max_tokens, **special)
