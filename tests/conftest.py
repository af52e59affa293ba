"""Fixtures every test may use: nothing here downloads, and nothing depends on the order of tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before torch and transformers are imported: one thread, so that sums are the same on every machine; no hub.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

settings.register_profile("shoestring", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("shoestring")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data kept beside the repository, or skip where it is absent."""
    folder = Path(os.environ.get("SHOESTRING_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data folder {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizers() -> dict[str, object]:
    """Byte-level BPE in RoBERTa's order of special tokens, and WordPiece, by name."""
    import tiny

    return {"bpe": tiny.bpe_tokenizer(), "wordpiece": tiny.wordpiece_tokenizer()}


@pytest.fixture(scope="session")
def tiny_masked_folder(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    """A RoBERTa of two layers with random weights, with dropout as RoBERTa has it."""
    import tiny

    return tiny.save(
        tiny.build_model("roberta", "masked"), tiny.bpe_tokenizer(), tmp_path_factory.mktemp("roberta") / "roberta"
    )


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    """A BERT of two layers with random weights and a WordPiece tokenizer."""
    import tiny

    model = tiny.build_model("bert", "masked", pad_token_id=0)
    return tiny.save(model, tiny.wordpiece_tokenizer(), tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture(scope="session")
def tiny_causal_folder(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    """A Llama of two layers with random weights: grouped queries, untied, no biases."""
    import tiny

    return tiny.save(
        tiny.build_model("llama", "causal"), tiny.bpe_tokenizer(), tmp_path_factory.mktemp("llama") / "llama"
    )


@pytest.fixture(scope="session")
def tiny_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SST-2-like originals, laid out as LM-BFF's; do not write into it."""
    import tiny

    return tiny.write_original(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="session")
def frozen_imports() -> None:
    """Import the heavy libraries and take their objects out of garbage collection, which a run calls for."""
    import peft
    import sklearn.linear_model  # noqa: F401 - sets variables of the environment, once
    import torch
    import transformers
    from transformers import Trainer  # noqa: F401 - transformers imports it late

    _ = peft, transformers
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def frozen_leftovers() -> Iterator[None]:
    """Take what a module of tests leaves (numba's types, caches) out of the collections that runs call for.

    Each would otherwise look at a hundred thousand objects that stay, which was a fifth of a tiny run's time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def global_random_states() -> Iterator[None]:
    """Fail if the test leaves a global random generator in another state than it found."""
    import random

    import numpy as np
    import torch

    def states() -> tuple[object, str, bytes]:
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002

    before = states()
    yield
    assert states() == before
