"""The demo's model in several sizes: one tokenizer, one corpus, each pretrained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from shoestring.demo.export import export
from shoestring.demo.pretrain import ModelSettings
from shoestring.demo.sizes import SIZES, ensure_sizes

pytestmark = pytest.mark.usefixtures("frozen_imports", "global_random_states")
FEW = {
    "small": ModelSettings(hidden=8, layers=1, heads=2, steps=2, batch_size=4),
    "large": ModelSettings(hidden=24, layers=2, heads=2, steps=2, batch_size=4),
}


def test_sizes_are_built_once_in_order_of_their_weights_and_read_like_the_demos_model(tmp_path: Path) -> None:
    told: list[str] = []
    assets, sizes = ensure_sizes(tmp_path, lambda what, *_: told.append(what), tiny.demo_settings(), FEW)
    assert list(sizes) == ["small", "medium", "large"]
    assert sizes["medium"] == assets.masked
    assert told[-1] == "pretraining the masked model, large"
    shapes = {name: json.loads((path / "config.json").read_text(encoding="utf-8")) for name, path in sizes.items()}
    assert [shapes[name]["hidden_size"] for name in sizes] == [8, 16, 24]
    words = [(path / "tokenizer.json").read_text(encoding="utf-8") for path in sizes.values()]
    assert words[0] == words[1] == words[2]
    told.clear()
    assert ensure_sizes(tmp_path, lambda what, *_: told.append(what), tiny.demo_settings(), FEW)[1] == sizes
    assert told == []
    export(assets, tmp_path / "playground", sizes)
    assert sorted(path.name for path in (tmp_path / "playground" / "sizes").iterdir()) == ["large", "medium", "small"]
    assert not list((tmp_path / "playground" / "sizes").rglob("manifest.json"))


def test_the_sizes_differ_by_some_factor_in_weights() -> None:
    small, large = (SIZES[name].layers * SIZES[name].hidden ** 2 for name in ("small", "large"))
    assert small * 30 < large
