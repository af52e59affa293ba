"""A run whose process is killed goes on from its last checkpoint and ends as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import shoestring
import tiny
from shoestring.runs.config import RunConfig
from shoestring.runs.record import read_record
from shoestring.runs.run import run

CHILD = """
import json, sys
import torch
torch.set_num_threads(1)
from contextlib import nullcontext
from shoestring.runs.config import RunConfig
from shoestring.runs.run import run

class Bar:
    done = 0
    def advance(self, steps=1):
        self.done += steps
        if self.done == 7:
            print("step 7", flush=True)
            sys.stdin.read()
    def note(self, text):
        pass

class Progress:
    def bar(self, label, total):
        return nullcontext(Bar())

run(RunConfig.model_validate(json.load(open(sys.argv[1]))), progress=Progress())
"""


@pytest.mark.usefixtures("frozen_imports")
def test_a_killed_run_goes_on_and_ends_with_the_same_result(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    method = {"kind": "adam", "steps": 12, "batch_size": 4, "eval_every": 3, "lr": 1e-3, "log_every": 1}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "killed", method=method)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    source = str(Path(shoestring.__file__).parent.parent)
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {source!r})\n{CHILD}",
        str(tmp_path / "config.json"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "step 7\n"
        process.kill()
    assert process.returncode == -9
    assert read_record(config.folder) is None
    # As a kill in the middle of a write leaves it: a checkpoint without its last file, a torn line in the log.
    (config.folder / "checkpoints" / "checkpoint-9").mkdir()
    with (config.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "l')

    resumed = run(config)
    whole = run(RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path / "whole")}}))
    assert resumed.facts == whole.facts | {"resumed_from": 6}
    for field in ("run_id", "status", "metrics", "passes", "weights", "split", "model_fingerprint"):
        assert getattr(resumed, field) == getattr(whole, field), field
    for name in ("predictions.jsonl", "metrics.jsonl", "split.json", "config.json"):
        paths = [tmp_path / folder / config.run_id / name for folder in ("killed", "whole")]
        assert paths[0].read_text() == paths[1].read_text(), name
