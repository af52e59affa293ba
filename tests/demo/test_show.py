from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

import tiny
from shoestring.demo import show
from shoestring.demo.assets import DemoAssets, ensure
from shoestring.demo.export import export
from shoestring.errors import OutputError
from shoestring.prompts.check import check_task
from shoestring.runs.config import load_config
from shoestring.runs.run import run
from shoestring.tasks.load import load_task

pytestmark = pytest.mark.usefixtures("frozen_imports")
TINY = tiny.demo_settings()


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> DemoAssets:
    """The embedded default with models that have hardly been trained."""
    return ensure(tmp_path_factory.mktemp("cache"), None, TINY)


class Told:
    """Notes what it is told, and shows nothing."""

    def __init__(self) -> None:
        self.bars: dict[str, list[int]] = {}

    def bar(self, label: str, total: int) -> AbstractContextManager[Told.Bar]:
        self.bars[label] = [0, total]
        return nullcontext(Told.Bar(self.bars[label]))

    class Bar:
        def __init__(self, counts: list[int]) -> None:
            self.counts = counts

        def advance(self, steps: int = 1) -> None:
            self.counts[0] += steps

        def note(self, text: str) -> None:
            assert text


def test_the_demo_runs_every_method_on_every_task_and_model_for_every_seed(assets: DemoAssets, tmp_path: Path) -> None:
    configs = show.demo_configs(assets, tmp_path, (13, 21, 42))
    told = {(c.task.name, c.model.kind, c.method.kind, c.seed) for c in configs}
    assert len(told) == len(configs) == 3 * 2 * 3 * 3
    assert {config.data.k for config in configs} == {16}
    assert len({config.run_id for config in configs}) == len(configs)


def test_the_records_of_the_demo_come_from_runs_and_its_progress_is_told(
    assets: DemoAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "ensure", lambda progress: assets)
    monkeypatch.setattr(show, "METHODS", ({"kind": "zero-shot"}, {**show.MEZO, "steps": 2}))
    monkeypatch.setattr(show, "MODELS", ("masked",))
    monkeypatch.setattr(show, "cores", lambda: 2)
    told = Told()
    records = show.run_demo(tmp_path / "runs", seeds=(13,), progress=told)
    assert told.bars["runs"] == [6, 6]
    assert [record.status for record in records] == ["ok"] * 6
    assert {record.config["method"]["kind"]: record.passes.forward for record in records if record.passes} == {
        "zero-shot": 0,
        "mezo": 4,
    }


def test_each_pretraining_has_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "ensure", lambda progress: ensure(tmp_path, progress, TINY))
    told = Told()
    show.build_assets(told)
    assert told.bars == {
        "pretraining the masked model": [4, 4],
        "pretraining the causal model": [4, 4],
    }


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_demo_tasks_suit_the_demo_models(assets: DemoAssets, kind: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(getattr(assets, kind))
    for path in assets.tasks.values():
        assert check_task(load_task(str(path)), tokenizer, "masked" if kind == "masked" else "causal") == []


def test_an_exported_recipe_runs(assets: DemoAssets, tmp_path: Path) -> None:
    names = export(assets, tmp_path / "playground")
    assert names == ["causal", "data", "masked", "recipe.toml", "reviews.csv", "tasks"]
    recipe = tmp_path / "playground" / "recipe.toml"
    config = load_config(recipe, ["method.steps=1", f"output.folder={tmp_path / 'runs'}"])
    assert run(config).status == "ok"


def test_export_refuses_a_folder_that_holds_something(assets: DemoAssets, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is there already and not empty; choose a new folder"):
        export(assets, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_an_export_that_fails_leaves_nothing(
    assets: DemoAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shoestring.demo.export._write_reviews", full)
    with pytest.raises(OutputError, match="No space left on device"):
        export(assets, tmp_path / "playground")
    assert not (tmp_path / "playground").exists()
