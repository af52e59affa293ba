"""The demo's masked model in three sizes, pretrained alike: a family to see what changes with size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from shoestring.config import canonical_json
from shoestring.demo import cache as store
from shoestring.demo.assets import DemoAssets, DemoSettings, ensure, key
from shoestring.demo.language import corpus
from shoestring.demo.pretrain import ModelSettings, Report, pretrain
from shoestring.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The one in the middle is the demo's own, and not among these.
SIZES: Mapping[str, ModelSettings] = MappingProxyType(
    {
        "small": ModelSettings(hidden=32, layers=1, heads=2, steps=2000, batch_size=96, lr=6e-3, init_std=0.14),
        "large": ModelSettings(hidden=128, layers=3, heads=4, steps=1500, batch_size=96, lr=2e-3, init_std=0.07),
    }
)
MIDDLE = "medium"


def ensure_sizes(
    cache: Path | None = None,
    progress: Report | None = None,
    settings: DemoSettings | None = None,
    sizes: Mapping[str, ModelSettings] = SIZES,
) -> tuple[DemoAssets, dict[str, Path]]:
    """Return the embedded default and the folder of each size, from the cache or built now (minutes on two cores).

    All have the demo's tokenizer and read the demo's corpus; `medium` is the demo's own masked model.

    Args:
        cache: cache folder, as `ensure`.
        progress: as `ensure`.
        settings: what the embedded default is made from.
        sizes: the other sizes, by name.

    Raises:
        OutputError: if something must be built and the cache folder cannot be written.
    """
    chosen = settings or DemoSettings()
    report = progress or _silent
    assets = ensure(cache, report, chosen)
    found = {MIDDLE: assets.masked}
    for name, size in sizes.items():
        digest = hashlib.sha256(f"{key(chosen)} {canonical_json(size)}".encode()).hexdigest()[:16]

        def make(work: Path, name: str = name, size: ModelSettings = size) -> None:
            _make(work, (name, size), chosen, assets, report)

        found[name] = store.obtain(store.root(cache) / "demo" / f"size-{digest}", make)
    order = sorted(found, key=lambda name: _weights(chosen.masked if name == MIDDLE else sizes[name]))
    return assets, {name: found[name] for name in order}


def _weights(size: ModelSettings) -> int:
    return size.layers * size.hidden**2


def _make(
    folder: Path, named: tuple[str, ModelSettings], settings: DemoSettings, assets: DemoAssets, report: Report
) -> None:
    from transformers import AutoTokenizer

    name, size = named
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(str(assets.masked))
    rows = [tokenizer.encode(text, add_special_tokens=False, verbose=False) for text in corpus(settings.language)]

    def told(what: str, done: int, total: int) -> None:
        report(f"{what}, {name}", done, total)

    model = pretrain("masked", rows, len(tokenizer), size, told)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
