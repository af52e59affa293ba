"""The demo: three tasks, two tiny models, zero-shot against MeZO against Adam; every number comes from a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shoestring.config import Table
from shoestring.demo.assets import DemoAssets, ensure
from shoestring.demo.pretrain import Report
from shoestring.demo.sizes import ensure_sizes
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.record import Record
from shoestring.studies.launch import cores, run_all

SEEDS = (13, 21, 42)

# Chosen once, by hand, for models of this size, while the language was written; the published settings are for models a
# thousand times larger, which need smaller steps. Each run still takes the best of its checkpoints on dev.
MEZO: Table = {"kind": "mezo", "lr": 5e-4, "eps": 1e-3, "steps": 600, "batch_size": 32}
ADAM: Table = {"kind": "adam", "lr": 3e-4, "steps": 100, "batch_size": 16}
METHODS: tuple[Table, ...] = ({"kind": "zero-shot"}, MEZO, ADAM)
MODELS = ("masked", "causal")
# Each worker loads torch for itself; with more of them that would take longer than it saves.
MOST_JOBS = 4


def run_demo(
    out: Path, *, seeds: Sequence[int] = SEEDS, force: bool = False, progress: Progress | None = None
) -> list[Record]:
    """Pretrain the tiny models unless they are cached, make every run unless it is done, and return the records.

    Raises:
        OutputError: if the cache folder or `out` cannot be written.
    """
    progress = progress or Silent()
    assets = build_assets(progress)
    configs = demo_configs(assets, out, seeds)
    return run_all(configs, jobs=min(cores(), MOST_JOBS), force=force, progress=progress)


def demo_configs(assets: DemoAssets, out: Path, seeds: Sequence[int]) -> list[RunConfig]:
    """Return the config of every run of the demo."""
    return [
        load_config(None, table={**demo_table(assets, kind, task, out), "method": method, "seed": seed})
        for kind in MODELS
        for method in METHODS
        for task in assets.tasks.values()
        for seed in seeds
    ]


def demo_table(assets: DemoAssets, kind: str, task: Path, out: Path) -> dict[str, Any]:
    """Return what the demo's runs of one model and task share."""
    return {
        "task": str(task),
        "data": {"source": str(assets.data), "k": 16},
        "model": {"kind": kind, "name": str(getattr(assets, kind)), "device": "cpu"},
        "output": {"folder": str(out)},
    }


def build_assets(progress: Progress) -> DemoAssets:
    """Return the embedded default, from the cache or built now, with one bar for each model that is pretrained."""
    with _bars(progress) as report:
        return ensure(progress=report)


def build_sizes(progress: Progress) -> tuple[DemoAssets, dict[str, Path]]:
    """Return the embedded default and its masked model in three sizes, as `build_assets`."""
    with _bars(progress) as report:
        return ensure_sizes(progress=report)


@contextmanager
def _bars(progress: Progress) -> Iterator[Report]:
    with ExitStack() as stack:
        bars: dict[str, Bar] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = stack.enter_context(progress.bar(what, total))
            bars[what].advance()

        yield report
