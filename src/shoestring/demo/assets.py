"""The embedded default as files: two tiny models, a data root and three task files, built once and cached."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from shoestring.config import Settings, canonical_json
from shoestring.demo import cache as store
from shoestring.demo.examples import TASKS, ExampleSettings, Row, Texts, draw
from shoestring.demo.language import LanguageSettings, corpus, series
from shoestring.demo.pretrain import ModelSettings, Report, pretrain
from shoestring.demo.tokenizer import Family, train, wrap
from shoestring.models.quiet import quiet

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# Built assets depend on these files of this folder; a test compares the list with what is imported.
MODULES = ("words", "language", "examples", "tokenizer", "pretrain", "cache", "assets")
PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
FAMILIES: tuple[Family, ...] = ("masked", "causal")


class DemoSettings(Settings):
    """Everything the embedded default is made from."""

    language: LanguageSettings = LanguageSettings()
    examples: ExampleSettings = ExampleSettings()
    vocabulary: PositiveInt = 1200
    """Most tokens the tokenizer may have; the corpus needs fewer."""
    masked: ModelSettings = ModelSettings(steps=2000, batch_size=96, lr=4e-3, init_std=0.1)
    causal: ModelSettings = ModelSettings(steps=1200, batch_size=64, lr=3e-3, init_std=0.05, max_tokens=256)


@dataclass(frozen=True)
class DemoAssets:
    """Where the embedded default lies.

    Attributes:
        masked: folder of the masked model and its tokenizer, as transformers loads it.
        causal: folder of the causal model and its tokenizer.
        data: data root; each task has a folder with `train.tsv` and `test.tsv`.
        tasks: task file of each task, by name.
    """

    masked: Path
    causal: Path
    data: Path
    tasks: Mapping[str, Path]


def ensure(
    cache: Path | None = None, progress: Report | None = None, settings: DemoSettings | None = None
) -> DemoAssets:
    """Return the embedded default, from the cache or built now (about a minute on two cores).

    Args:
        cache: cache folder; by default `$SHOESTRING_CACHE`, or else shoestring under the user's cache folder.
        progress: called as progress(what is done, steps done, steps in all) while models are pretrained.
        settings: what to build; by default the embedded default.

    Raises:
        OutputError: if it must be built and the cache folder cannot be written.
    """
    chosen = settings or DemoSettings()
    report = progress or _silent
    folder = store.obtain(store.root(cache) / "demo" / key(chosen), lambda work: _make(work, chosen, report))
    tasks = {name: folder / "tasks" / f"{name}.toml" for name in TASKS}
    return DemoAssets(folder / "masked", folder / "causal", folder / "data", tasks)


def key(settings: DemoSettings) -> str:
    """Return the cache key: a hash of the settings, the source texts, the package versions and the kind of machine."""
    sha = hashlib.sha256(canonical_json(settings).encode())
    for source in _sources():
        sha.update(f"\n[{source.name}]\n".encode())
        sha.update(source.read_bytes())
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    sha.update("\n".join([*versions, platform.machine()]).encode())
    return sha.hexdigest()[:16]


def _sources() -> Iterator[Traversable]:
    package = resources.files("shoestring")
    yield package / "seeds.py"
    for name in MODULES:
        yield package / "demo" / f"{name}.py"
    for name in TASKS:
        yield _task_file(name)


def _task_file(name: str) -> Traversable:
    return resources.files("shoestring") / "demo" / "tasks" / f"{name}.toml"


def _make(folder: Path, settings: DemoSettings, progress: Report) -> None:
    documents, judged = corpus(settings.language), series(settings.language)
    texts = Texts([*documents, *judged])
    for name in TASKS:
        for split, rows in draw(name, settings.examples, texts).items():
            _write_tsv(folder / "data" / name / f"{split}.tsv", TASKS[name].columns, rows)
    (folder / "tasks").mkdir()
    for name in TASKS:
        (folder / "tasks" / f"{name}.toml").write_bytes(_task_file(name).read_bytes())
    tokenizer = train(documents, settings.vocabulary)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(documents)]
    more = [encoding.ids for encoding in tokenizer.encode_batch(judged)]
    for family in FAMILIES:
        shape: ModelSettings = getattr(settings, family)
        read = rows if family == "masked" else [*rows, *more]
        model = pretrain(family, read, tokenizer.get_vocab_size(), shape, progress)
        with quiet():
            model.save_pretrained(folder / family)
        wrap(tokenizer, family, shape.max_tokens).save_pretrained(folder / family)


def _write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join((*columns, "label")), *("\t".join((*row.sentences, row.label)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
