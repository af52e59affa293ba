"""Toy tokenizers of the three kinds that behave differently, and the real ones where they are at hand."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "a fine film . It was great .",
    "a dull film , and it was terrible .",
    "He ran . He moved . Is it so ? No , Yes , Maybe : good bad okay",
    "This is the answer , said the old man .",
] * 4
WORDS = sorted({word.lower() for line in CORPUS for word in line.split()})


@pytest.fixture(scope="session")
def toy_bpe():
    """Byte-level BPE with RoBERTa's special tokens."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


@pytest.fixture(scope="session")
def toy_gpt2(toy_bpe):
    """The same BPE as a causal model has it: one token that ends texts, no mask, nothing put in front."""
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_str(toy_bpe.backend_tokenizer.to_str())
    own.post_processor = processors.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=own, bos_token="</s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def toy_wordpiece():
    """WordPiece with BERT's special tokens, lower-casing."""
    from transformers import PreTrainedTokenizerFast

    letters = sorted({char for word in WORDS for char in word})
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*WORDS, *letters])]
    entries += [f"##{char}" for char in letters]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


@pytest.fixture(scope="session")
def toy_sentencepiece():
    """BPE over words that all begin with `▁`, put in front of every text: Llama's way."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=list("abcdefgh,.?!IL▁"),
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def roberta(shared):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "tokenizers" / "roberta-bpe")


@pytest.fixture(scope="session")
def bert(shared):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "minilm-mlm")


@pytest.fixture(scope="session")
def stories(shared):
    """A small Llama-style tokenizer that puts `▁` in front of every text."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "stories260K")


@pytest.fixture(scope="session")
def llama(shared):
    """The 32,000-entry Llama vocabulary; its SentencePiece file is read by transformers' own class."""
    from transformers import LlamaTokenizer

    return LlamaTokenizer.from_pretrained(shared / "tokenizers" / "llama-32k")
