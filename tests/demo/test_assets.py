"""The embedded default as files: deterministic, loadable, cached, repaired, and refused with a clear error."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import tiny
from shoestring.demo import assets, cache
from shoestring.demo.assets import DemoSettings, ensure, key
from shoestring.demo.examples import TASKS
from shoestring.demo.pretrain import pretrain
from shoestring.errors import OutputError

TINY = tiny.DEMO_MODEL
SETTINGS = tiny.demo_settings(train_per_label=20, test=24)


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> assets.DemoAssets:
    return ensure(tmp_path_factory.mktemp("cache"), None, SETTINGS)


def writes(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_text(text)

    return make


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_models_load_as_transformers_models_and_read_their_tokenizers_ids(built: assets.DemoAssets) -> None:
    for folder, loader in ((built.masked, AutoModelForMaskedLM), (built.causal, AutoModelForCausalLM)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = loader.from_pretrained(folder)
        batch = tokenizer(["The soup was great.", "It was"], padding=True, return_tensors="pt")
        batch.pop("token_type_ids", None)
        logits = model(**batch).logits
        assert logits.shape == (*batch["input_ids"].shape, len(tokenizer))
        assert torch.isfinite(logits).all()


def test_the_longest_input_fits_the_masked_model(built: assets.DemoAssets) -> None:
    model = AutoModelForMaskedLM.from_pretrained(built.masked)
    ids = torch.full((1, TINY.max_tokens), 10)
    assert model(input_ids=ids).logits.shape[1] == TINY.max_tokens


def test_the_data_root_holds_what_the_task_files_name(built: assets.DemoAssets) -> None:
    assert set(built.tasks) == set(TASKS)
    for name, path in built.tasks.items():
        assert path.is_file()
        lines = (built.data / name / "train.tsv").read_text(encoding="utf-8").splitlines()
        assert lines[0].split("\t") == [*TASKS[name].columns, "label"]
        assert len(lines) == 1 + 20 * len(TASKS[name].labels)
        assert {line.split("\t")[-1] for line in lines[1:]} == set(TASKS[name].labels)
        assert len((built.data / name / "test.tsv").read_text(encoding="utf-8").splitlines()) == 25


def test_two_builds_from_the_same_seed_are_the_same_bytes(built: assets.DemoAssets, tmp_path: Path) -> None:
    again = ensure(tmp_path, None, SETTINGS)
    assert state(again.data.parent) == state(built.data.parent)


@pytest.mark.parametrize("family", ["masked", "causal"])
def test_pretraining_learns_repeats_exactly_and_leaves_the_global_generators_alone(family: assets.Family) -> None:
    rows = [[5, 6, 7, 8], [9, 10, 11], [5, 6, 7, 12, 13]] * 5
    before = (torch.get_rng_state(), repr(np.random.get_state()), random.getstate())  # noqa: NPY002
    seen: list[tuple[str, int, int]] = []
    settings = TINY.model_copy(update={"steps": 6, "lr": 1e-2})
    first = pretrain(family, rows, 20, settings, lambda *report: seen.append(report))
    second = pretrain(family, rows, 20, settings, silent)
    other = pretrain(family, rows, 20, settings.model_copy(update={"seed": 1}), silent)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (repr(np.random.get_state()), random.getstate())  # noqa: NPY002
    assert seen == [(f"pretraining the {family} model", step, 6) for step in range(1, 7)]
    weights = [dict(model.named_parameters()) for model in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert not first.training


def test_a_second_call_takes_the_cached_entry(built: assets.DemoAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_make", lambda *_: pytest.fail("built again"))
    assert ensure(built.data.parents[2], None, SETTINGS) == built


def test_a_cached_entry_is_used_without_importing_torch(built: assets.DemoAssets) -> None:
    code = (
        "import sys; from pathlib import Path; from shoestring.demo.assets import DemoSettings, ensure;"
        "ensure(Path(sys.argv[1]), None, DemoSettings.model_validate_json(sys.argv[2]));"
        "print('torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(built.data.parents[2]), SETTINGS.model_dump_json()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_key_changes_with_settings_sources_and_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = {key(DemoSettings()), key(SETTINGS)}
    monkeypatch.setattr(assets.metadata, "version", lambda name: "0")
    keys.add(key(SETTINGS))
    source = tmp_path / "language.py"
    source.write_text("# another language")
    monkeypatch.setattr(assets, "_sources", lambda: iter([source]))
    keys.add(key(SETTINGS))
    assert len(keys) == 4


def test_the_key_covers_every_module_of_this_folder_that_a_build_imports() -> None:
    code = "import sys; import shoestring.demo.assets; print(*[m for m in sys.modules if m.startswith('shoestring.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    demo = {name.removeprefix("shoestring.demo.") for name in done.stdout.split() if "shoestring.demo." in name}
    assert demo == set(assets.MODULES)


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest", "empty manifest", "odd manifest"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    def make(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("whole")

    folder = cache.obtain(tmp_path / "entry", make)
    match damage:
        case "changed":
            (folder / "sub" / "file").write_text("whol")
        case "missing":
            (folder / "sub" / "file").unlink()
        case "no manifest":
            (folder / cache.MANIFEST).unlink()
        case "empty manifest":
            (folder / cache.MANIFEST).write_text("")
        case _:
            (folder / cache.MANIFEST).write_text("[1]")
    assert not cache.sound(folder)
    assert (cache.obtain(folder, make) / "sub" / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.obtain(tmp_path / "entry", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_builders_wins_and_both_go_on(tmp_path: Path) -> None:
    def slow(folder: Path) -> None:
        (folder / "by").write_text("slow")
        cache.obtain(tmp_path / "entry", writes("by", "fast"))

    assert (cache.obtain(tmp_path / "entry", slow) / "by").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_losing_the_race_at_the_last_moment_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, real = tmp_path / "entry", cache.os.replace

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(cache.os, "replace", real)
        cache.obtain(entry, writes("by", "other"))
        real(source, target)

    monkeypatch.setattr(cache.os, "replace", overtaken)
    cache.obtain(entry, writes("by", "this"))
    assert (entry / "by").read_text() == "other"


def test_unfinished_folders_of_killed_processes_are_swept_after_a_day(tmp_path: Path) -> None:
    old, fresh = tmp_path / f"{cache.UNFINISHED}old", tmp_path / f"{cache.UNFINISHED}fresh"
    old.mkdir()
    fresh.mkdir()
    cache.os.utime(old, (0, 0))
    cache.obtain(tmp_path / "entry", writes("file", "x"))
    assert not old.exists()
    assert fresh.exists()


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write the cache folder .*file.*Not a directory.*SHOESTRING_CACHE"):
        ensure(tmp_path / "file", None, SETTINGS)


def test_a_disk_that_refuses_while_building_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assets, "_write_tsv", full)
    with pytest.raises(OutputError, match=r"No space left on device\. Set SHOESTRING_CACHE"):
        ensure(tmp_path, None, SETTINGS)
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_read_only_cache_refuses_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(assets, "_make", lambda *_: pytest.fail("built"))
    with pytest.raises(OutputError, match=r"Permission denied\. Set SHOESTRING_CACHE"):
        ensure(tmp_path, None, SETTINGS)


def test_the_cache_folder_is_the_given_one_or_the_variables_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.root() == tmp_path / "home" / ".cache" / "shoestring"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.root() == tmp_path / "home" / ".cache" / "shoestring"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "shoestring"
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "mine"))
    assert cache.root() == tmp_path / "mine"
    assert cache.root(tmp_path / "given") == tmp_path / "given"
