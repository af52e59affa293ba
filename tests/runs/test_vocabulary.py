"""Tokens that were added to a tokenizer, and segments of a template, that the model has no embedding for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring import load_run
from shoestring.data.splits import draw
from shoestring.errors import ModelError
from shoestring.runs.config import RunConfig
from shoestring.runs.run import prepare, run

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHORT = {"kind": "adam", "steps": 2, "batch_size": 4, "eval_every": 2}


def made(folder: Path, data: Path, kind: str, /, vocabulary: int = 0, **tokens: Any) -> tuple[RunConfig, int]:
    """Return a config with a Llama whose tokenizer had tokens added to it, and the size of its embedding."""
    tokenizer = tiny.bpe_tokenizer()
    size = vocabulary or len(tokenizer)
    tokenizer.add_special_tokens(tokens)
    changes: dict[str, Any] = {"pad_token_id": None} | ({"num_labels": 2} if kind == "head" else {})
    model = tiny.build_model("llama", kind, vocab_size=size, **changes)
    place = tiny.save(model, tokenizer, folder / "model")
    return tiny.config(place, data, folder / "runs", model={"kind": kind}, method=SHORT), size


def test_padding_without_an_embedding_is_replaced_where_nothing_reads_it(tiny_original: Path, tmp_path: Path) -> None:
    config, size = made(tmp_path, tiny_original, "causal", pad_token="[PAD]")
    prepared = prepare(config, draw(config.task, config.data, config.seed))
    assert prepared.tokenizer.pad_token_id == size
    assert prepared.subject.pad_id == prepared.tokenizer.eos_token_id
    prompts = prepared.prompts["dev"]
    assert len({len(prompt.ids) for prompt in prompts}) > 1
    one_by_one = torch.cat([prepared.subject.predict([prompt], 1) for prompt in prompts])
    torch.testing.assert_close(prepared.subject.predict(prompts, 8), one_by_one)
    # What is kept can be loaded: transformers refuses a config that names padding without an embedding.
    keeping = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path), "keep_model": True}})
    done = run(keeping)
    kept = tiny.config(
        keeping.folder / "model",
        tiny_original,
        tmp_path,
        model={"kind": "causal"},
        method={"kind": "zero-shot"},
    )
    assert run(kept).metrics["test"] == pytest.approx(done.metrics["test"], rel=1e-5)


def test_padding_is_0_where_the_end_of_text_has_no_embedding_either(tiny_original: Path, tmp_path: Path) -> None:
    config, _ = made(tmp_path, tiny_original, "causal", pad_token="[PAD]", eos_token="[END]")
    assert prepare(config, draw(config.task, config.data, config.seed)).subject.pad_id == 0


def test_a_head_that_looks_for_padding_without_an_embedding_is_refused(tiny_original: Path, tmp_path: Path) -> None:
    config, size = made(tmp_path, tiny_original, "head", pad_token="[PAD]")
    with pytest.raises(ModelError) as caught:
        run(config)
    name = re.escape(repr(config.model.name))
    assert re.match(
        rf"model\.name={name}: its tokenizer \(\w+, {size + 1} tokens\) has '\[PAD\]' as token {size}, "
        rf"and the model's embedding has {size} tokens, 0 to {size - 1}; a classification head .*; .*resize_token",
        str(caught.value),
    )
    assert not config.folder.exists()


def test_a_token_of_a_prompt_without_an_embedding_is_named(tiny_original: Path, tmp_path: Path) -> None:
    config, _ = made(tmp_path, tiny_original, "causal", 300)
    with pytest.raises(ModelError, match=r"has '\S+' as token 3\d\d, .* has 300 tokens, 0 to 299; it is in example tr"):
        run(config)
    assert not config.folder.exists()


def test_a_token_of_a_new_text_without_an_embedding_is_named(tiny_original: Path, tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer()
    model = tiny.build_model("roberta", "masked", vocab_size=len(tokenizer))
    tokenizer.add_tokens(["[NEW]"])
    place = tiny.save(model, tokenizer, tmp_path / "model")
    config = tiny.config(place, tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    run(config)
    again = load_run(config.folder)
    assert again.predict(["a fine film"])[0].prediction in ("0", "1")
    with pytest.raises(ModelError, match=r"has '\[NEW\]' as token \d+, .*; it is in example new:1; use the tokenizer"):
        again.predict(["a fine film", "a [NEW] film"])


def bert(folder: Path, data: Path, **sections: Any) -> RunConfig:
    """Return the config of a zero-shot run of a BERT, which has two segments."""
    place = tiny.save(tiny.build_model("bert", "masked"), tiny.wordpiece_tokenizer(), folder / "model")
    return tiny.config(place, data, folder / "runs", **{"method": {"kind": "zero-shot"}, **sections})


def test_more_segments_than_a_model_tells_apart_are_refused(tiny_original: Path, tmp_path: Path) -> None:
    template = "*cls**sent_0*_It_was{}*sep*"
    one, two, three = (template.format("*mask**sep+*_So" + "*sep+*_so" * more) for more in (0, 1, 2))
    assert run(bert(tmp_path, tiny_original, prompt={"template": one})).status == "ok"
    for wrong, needed in ((two, 3), (three, 4)):
        config = bert(tmp_path, tiny_original, prompt={"template": wrong})
        with pytest.raises(ModelError, match=rf"tells 2 segments apart, and example \S+ has {needed}: .* \*sep\* in"):
            run(config)
        assert not config.folder.exists()


def test_demonstrations_with_more_segments_than_a_model_tells_apart_are_refused(
    tiny_original: Path, tmp_path: Path
) -> None:
    shown: dict[str, Any] = {"demonstrations": {"kind": "per-label"}}
    with pytest.raises(ModelError, match=r"has 3: each \*sep\+\* of a template, and of its demonstrations"):
        run(bert(tmp_path, tiny_original, method={"kind": "in-context"}, prompt=shown))
    same = shown | {"template": "*cls**sent_0*_It_was*mask*.*sep*"}
    assert run(bert(tmp_path, tiny_original, method={"kind": "in-context"}, prompt=same)).status == "ok"
