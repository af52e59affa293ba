"""Places given to functions may be texts."""

from __future__ import annotations

from pathlib import Path

import tiny
from shoestring import load_config, load_run
from shoestring.runs.collect import read_records
from shoestring.runs.export import export_run
from shoestring.runs.replay import replay_run
from shoestring.runs.run import run

METHOD = {"kind": "mezo", "steps": 2, "batch_size": 4, "lr": 1e-3, "eval_every": 2}


def test_a_place_may_be_a_text(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method=METHOD)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('task = "SST-2"\n[method]\nkind = "mezo"\n')
    overrides = ["model.kind=masked", "model.name=x", "data.source=y"]
    assert load_config(str(recipe), overrides) == load_config(recipe, overrides)
    record = run(config)
    folder, log = str(config.folder), str(config.folder / "trajectory.bin")
    assert [found.run_id for found in read_records([str(tmp_path / "runs")]).records] == [record.run_id]
    assert load_run(folder).record == record
    assert export_run(folder, str(tmp_path / "exported")).out == tmp_path / "exported"
    assert replay_run(log, str(tmp_path / "replayed")).steps == 2
    for place in ("exported", "replayed"):
        assert (tmp_path / place / "model.safetensors").is_file()
