"""Embeddings of texts are the means of the last hidden states, whatever else is embedded with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from shoestring.errors import ModelError
from shoestring.models.embedding import Embedder

pytestmark = pytest.mark.usefixtures("frozen_imports")
TEXTS = ["a great film", "a terrible , dull story and the end", "", "the cast", "a great film"]


def by_hand(folder: Path, text: str) -> list[float]:
    """Mean of the hidden states of one text, alone, number by number."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model(torch.tensor([tokenizer.encode(text)])).last_hidden_state[0].tolist()
    mean = [sum(row[place] for row in hidden) / len(hidden) for place in range(len(hidden[0]))]
    length = sum(number * number for number in mean) ** 0.5
    return [number / length for number in mean]


@pytest.mark.parametrize("family", ["tiny_masked_folder", "tiny_bert_folder", "tiny_causal_folder"])
def test_embeddings_are_means_of_last_hidden_states_of_length_one(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    found = Embedder(str(folder), device="cpu")(TEXTS)
    assert found.shape == (5, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.ones(5), rtol=1e-5)
    for text, row in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(row, by_hand(folder, text), atol=2e-5)


def test_global_random_states_are_left_alone(tiny_masked_folder: Path, global_random_states: None) -> None:
    Embedder(str(tiny_masked_folder), device="cpu")(TEXTS)


def test_longer_texts_are_cut_to_what_the_encoder_reads(tiny_masked_folder: Path) -> None:
    embed = Embedder(str(tiny_masked_folder), device="cpu")
    # Not in one batch: some processors sum its rows in different orders.
    long, longer = embed(["a great film " * 60]), embed(["a great film " * 61])
    assert np.isfinite(long).all()
    np.testing.assert_array_equal(long, longer)


def test_padding_without_an_embedding_is_replaced(tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer()
    model = tiny.build_model("llama", "causal", vocab_size=len(tokenizer), pad_token_id=None)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    folder = tiny.save(model, tokenizer, tmp_path)
    for text, row in zip(TEXTS[:2], Embedder(str(folder), device="cpu")(TEXTS[:2]), strict=True):
        np.testing.assert_allclose(row, by_hand(folder, text), atol=2e-5)


def test_known_texts_need_no_encoder(tiny_masked_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Embedder(str(tiny_masked_folder), device="cpu")
    first = embed(TEXTS)
    embed.release()
    monkeypatch.setattr(Embedder, "_load", lambda self: pytest.fail("it is loaded again"))
    np.testing.assert_array_equal(embed(TEXTS[::-1]), first[::-1])
    assert embed([]).shape[0] == 0


def test_an_encoder_that_is_not_there_or_not_whole_is_named(tiny_masked_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"prompt\.demonstrations\.filter: model\.name='\./nowhere'"):
        Embedder("./nowhere")(["a"])
    model = tiny.build_model("roberta", "masked")
    tiny.save(model, tiny.bpe_tokenizer(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"filter\.model=.*: cannot be loaded as an encoder"):
        Embedder(str(tmp_path), device="cpu")(["a"])
    from safetensors.torch import save_file

    kept = {name: value for name, value in model.state_dict().items() if "layer.1." not in name}
    kept.pop("lm_head.decoder.weight", None)
    save_file(
        {name: value.clone() for name, value in kept.items()}, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"the checkpoint lacks weights of RobertaModel: encoder\.layer\.1\."):
        Embedder(str(tmp_path), device="cpu")(["a"])
