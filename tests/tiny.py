"""Tiny random models, tokenizers and data: built in milliseconds, the same every time, nothing downloaded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from shoestring.data.example import Example
from shoestring.demo.assets import DemoSettings
from shoestring.demo.examples import ExampleSettings
from shoestring.demo.language import LanguageSettings
from shoestring.demo.pretrain import ModelSettings
from shoestring.memory import PeakMemory
from shoestring.methods.base import METHODS
from shoestring.models.generation import Generator
from shoestring.models.prompted import PromptedModel
from shoestring.models.quiet import quiet
from shoestring.models.scoring import SCORERS
from shoestring.models.settings import MODEL_KINDS, GenerationSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.settings import PromptSettings
from shoestring.runs.config import RunConfig, load_config
from shoestring.tasks.spec import Task
from shoestring.training.settings import TrainSettings
from shoestring.training.trainer import Job

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADJECTIVES = {"1": ["great", "fine", "good", "bright"], "0": ["terrible", "bad", "dull", "poor"]}
NOUNS = ["film", "story", "cast", "plot", "music", "end"]
CORPUS = [f"a {word} {noun} . It was {word} ." for words in ADJECTIVES.values() for word in words for noun in NOUNS]
CORPUS += ["It was great", "It was terrible", "Yes , No , Maybe", "the cast and the plot"] * 8

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
}
SPECIAL = {"bos_token_id": 0, "cls_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
# Larger than the usual 0.02, so that differences between tiny random models are far above rounding.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "roberta": SIZES | {"initializer_range": 0.2, "type_vocab_size": 1},
    "bert": SIZES | {"initializer_range": 0.2},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.2},
    "albert": SIZES | {"embedding_size": 16, "initializer_range": 0.2},
    "electra": SIZES | {"embedding_size": 16, "initializer_range": 0.2},
    "modernbert": SIZES | {"initializer_range": 0.2, "global_attn_every_n_layers": 2, "local_attention": 16},
    "opt": SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2},
    "llama": SIZES | {"num_key_value_heads": 2, "initializer_range": 0.2, "tie_word_embeddings": False},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 66, "initializer_range": 0.2},
    "gemma": SIZES | {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2},
    "gemma2": SIZES
    | {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2, "final_logit_softcapping": 3.0},
    "qwen3": SIZES | {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2},
    "mistral": SIZES | {"num_key_value_heads": 2, "initializer_range": 0.2, "sliding_window": 24},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 1},
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 66,
        "init_std": 0.2,
        "decoder_start_token_id": 2,
    },
}
# Models of the demo that have hardly been trained.
DEMO_MODEL = ModelSettings(hidden=16, layers=1, heads=2, steps=4, batch_size=8)
MASKED = ("roberta", "bert", "distilbert", "albert", "electra", "modernbert")
CAUSAL = ("opt", "llama", "gpt2", "gemma2", "qwen3", "mistral", "bloom")
SEQ2SEQ = ("t5", "bart")


def bpe_tokenizer() -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer with RoBERTa's special tokens, ids 0 to 4."""
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


def wordpiece_tokenizer() -> PreTrainedTokenizerBase:
    """Return a lower-casing WordPiece tokenizer with BERT's special tokens."""
    from transformers import PreTrainedTokenizerFast

    words = sorted({word.lower() for line in CORPUS for word in line.split()})
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*words, *letters])]
    entries += [f"##{char}" for char in letters]
    tokenizer = Tokenizer(models.WordPiece({entry: number for number, entry in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def build_model(architecture: str, kind: str, seed: int = 0, **changes: Any) -> Any:
    """Return a tiny random model in eval mode; `changes` go into its config. Nothing of it is zero."""
    import transformers

    settings = {"vocab_size": 400, **SPECIAL} | ARCHITECTURES[architecture] | changes
    with torch.random.fork_rng(devices=[]), quiet():
        config = transformers.AutoConfig.for_model(architecture, **settings)
        torch.random.manual_seed(seed)
        model = getattr(transformers, MODEL_KINDS.get(kind).loader).from_config(config)
        with torch.no_grad():
            for param in model.parameters():
                if param.ndim == 1:  # biases begin at 0 and norms at 1, which would hide mistakes with them
                    param.add_(0.1 * torch.randn_like(param))
    if architecture == "bart" and kind == "seq2seq":
        model.generation_config.forced_bos_token_id = 0
    return model.eval()


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write model and tokenizer in the transformers format."""
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Return `count` distinct-looking (sentence, label) pairs, labels in turn."""
    stream = random.Random(seed)
    found = []
    for number in range(count):
        label = str(number % 2)
        words = [stream.choice(ADJECTIVES[label]), stream.choice(NOUNS), stream.choice(NOUNS)]
        length = stream.randrange(3)
        tail = [" and the " + words[2], " , a " + words[0] + " " + words[2], ""][length]
        found.append((f"a {words[0]} {words[1]}{tail} {number} .", label))
    return found


def write_original(root: Path, *, train: int = 80, test: int = 24) -> Path:
    """Write SST-2-like originals as LM-BFF has them, `SST-2/train.tsv` and `SST-2/dev.tsv`, and return the root."""
    folder = root / "SST-2"
    folder.mkdir(parents=True)
    for name, count, seed in (("train", train, 1), ("dev", test, 2)):
        lines = "".join(f"{text}\t{label}\n" for text, label in rows(count, seed))
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + lines, encoding="utf-8")
    return root


def write_csv(path: Path, count: int = 60) -> Path:
    """Write a csv with the columns `review` and `mood`."""
    lines = "".join(f'"{text}",{label}\n' for text, label in rows(count, 3))
    path.write_text("review,mood\n" + lines, encoding="utf-8")
    return path


def task_of(labels: tuple[str, ...] = ("terrible", "great"), **changes: Any) -> Task:
    """Return a task of one sentence with the given label words, labels named 0, 1, ..."""
    table = {
        "name": "tiny",
        "sentences": ["sentence"],
        "labels": [{"name": str(number), "word": word} for number, word in enumerate(labels)],
        "templates": {
            "first": {"masked": "*cls**sent_0*_It_was*mask*.*sep+*", "causal": "*bos**sent_0*_It_was"},
        },
        "limits": {"max_tokens": 40},
    }
    return Task.model_validate(table | changes)


REGRESSION: dict[str, Any] = {
    "kind": "regression",
    "metrics": ["pearson"],
    "range": {"low": 0.0, "high": 5.0, "threshold": 2.5},
}


# Tasks whose examples bring their own answers.
WRITTEN: dict[str, Any] = {
    "kind": "generation",
    "labels": [],
    "metrics": ["token-f1", "exact-match"],
    "templates": {"first": {"text": {"prompt": "{{ sentence }} It was", "answer": " {{ candidate }}\n"}}},
    "generation": {"max_new_tokens": 5},
    "limits": {"max_tokens": 60},
}
CHOSEN: dict[str, Any] = {
    "kind": "multiple-choice",
    "labels": [],
    "templates": {"first": {"text": {"prompt": "{{ sentence }} It was", "answer": " {{ candidate }}"}}},
    "limits": {"max_tokens": 60},
}


def answered(count: int = 6, seed: int = 5) -> list[Example]:
    """Return examples of `task_of(**WRITTEN)` and `task_of(**CHOSEN)`: two to four candidates, one or two right."""
    found = []
    for number, (text, label) in enumerate(rows(count, seed)):
        words = ["not " + ADJECTIVES["0"][number % 4], *ADJECTIVES[label][: 1 + number % 3]]
        golds = tuple(words[number % 2 : 1 + number % 2 + number % 3 // 2])
        found.append(Example(f"train:{number}", (text,), golds[0], candidates=tuple(words), golds=golds))
    return found


def examples(count: int = 12, seed: int = 5) -> list[Example]:
    """Return examples of `task_of()`."""
    return [Example(f"train:{n}", (text,), label) for n, (text, label) in enumerate(rows(count, seed))]


def prompted(
    architecture: str,
    kind: Any,
    *,
    task: Task | None = None,
    dtype: torch.dtype = torch.float32,
    labels: int = 2,
    answer: str | None = None,
    **changes: Any,
) -> PromptedModel:
    """Return a tiny prompted model with the BPE tokenizer."""
    task = task or task_of()
    if kind == "head":
        changes = {"num_labels": labels} | changes
    model = build_model(architecture, kind, **changes).to(dtype)
    tokenizer = bpe_tokenizer()
    # Without a text form, a sequence-to-sequence model is asked what a causal one is.
    form = "causal" if kind == "seq2seq" and task.template().text is None else kind
    encoder = build_encoder(task, tokenizer, form, PromptSettings(answer=answer), 64)
    pad = int(str(tokenizer.pad_token_id))
    generator = Generator(tokenizer, task.generation, GenerationSettings(), pad) if task.generation else None
    return PromptedModel(model, task, encoder, SCORERS.get(kind), pad, generator=generator)


def encoded(subject: PromptedModel, count: int = 12, seed: int = 5) -> list[EncodedPrompt]:
    """Return encoded prompts of different lengths."""
    return subject.encode(examples(count, seed))


def config(model: Path, data: Path, out: Path, /, **sections: Any) -> RunConfig:
    """Return the config of a run of seconds: SST-2's task file on tiny data; `sections` are laid on top."""
    table = {
        "task": "SST-2",
        "data": {"source": str(data), "k": 4},
        "model": {"kind": "masked", "name": str(model)},
        "method": {"kind": "mezo", "steps": 4, "batch_size": 4, "lr": 1e-3, "eval_every": 2},
        "output": {"folder": str(out)},
    }
    merged: dict[str, Any] = dict(table)
    for name, section in sections.items():
        old = table.get(name)
        replaced = name in ("method", "tuning") and isinstance(section, dict) and "kind" in section
        merged[name] = (
            old | section if isinstance(old, dict) and isinstance(section, dict) and not replaced else section
        )
    return load_config(None, table=merged)


def job(subject: PromptedModel, folder: Path, settings: TrainSettings, *, seed: int = 13, train: int = 16) -> Job:
    """Return a training job on `train` examples, with 8 others as dev."""
    return Job(subject, encoded(subject, train), encoded(subject, 8, seed=6), settings, seed, folder, Unmeasured())


class Unmeasured(PeakMemory):
    """Measures nothing: a garbage collection for every training would be most of a test's time."""

    def __init__(self) -> None:
        self.bytes, self.how = Counter(), "not at all"

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        yield

    def release(self) -> None:
        pass


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of every weight, by name."""
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether two sets of weights are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def short(name: str) -> Any:
    """Return the settings of a method, at most four steps long."""
    settings = METHODS.get(name)
    wanted = {"steps": 4, "eval_every": 2, "batch_size": 4, "lr": 1e-3, "samples": 2}
    return settings(**{key: value for key, value in wanted.items() if key in settings.model_fields})


def demo_settings(*, train_per_label: int = 60, test: int = 60) -> DemoSettings:
    """Return settings of the embedded default that are made in seconds."""
    examples = ExampleSettings(train_per_label=train_per_label, test=test)
    language = LanguageSettings(documents=1500)
    return DemoSettings(language=language, examples=examples, masked=DEMO_MODEL, causal=DEMO_MODEL)
