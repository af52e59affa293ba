"""A sweep of 200 short runs of the demo, killed three times and once out of disk, ends as an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shoestring
from shoestring.demo.export import export
from shoestring.demo.show import build_assets
from shoestring.progress import Silent
from shoestring.runs.collect import read_records
from shoestring.studies.study import load_study
from shoestring.studies.sweep import Sweep
from shoestring.tables.formats import as_text
from shoestring.tables.table import Layout, tabulate

pytestmark = pytest.mark.slow
RECIPE = """\
task = "./tasks/demo-sentiment.toml"
[data]
source = "./data"
k = 8
max_test = 60
[model]
kind = "masked"
name = "./masked"
device = "cpu"
[method]
kind = "mezo"
steps = 6
eval_every = 3
batch_size = 4
[study]
title = "Killed"
seeds = [13, 21, 42]
over.task = ["./tasks/demo-sentiment.toml", "./tasks/demo-question.toml", "./tasks/demo-entailment.toml"]
over.method.lr = [1e-5, 1e-4, 1e-3, 1e-2]
over.tuning.kind = ["full", "lora", "bitfit"]
[[study.variants]]
name = "MeZO"
[[study.variants]]
name = "Adam"
set.method = { kind = "adam", steps = 4, eval_every = 2, batch_size = 4 }
[[study.variants]]
name = "zero-shot"
set.method.kind = "zero-shot"
over.tuning.kind = ["full"]
"""
RUNS = 3 * 3 * (2 * 4 * 3 + 1)
KILLS = (0.2, 0.45, 0.7)
BEGUN: list[subprocess.Popen[bytes]] = []


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "playground"
    export(build_assets(Silent()), folder)
    (folder / "killed.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own whose size can be changed; skipped where this process may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Kill what a failing test leaves behind."""
    yield
    while BEGUN:
        process = BEGUN.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def begin(recipe: Path, out: Path, log: Path) -> subprocess.Popen[bytes]:
    """Begin the sweep in a process group of its own."""
    source = str(Path(shoestring.__file__).parent.parent)
    program = f"import sys; sys.path.insert(0, {source!r}); from shoestring.cli.main import main; main()"
    # A file that is imported, so that worker processes may begin: they import the main module again.
    entry = log.with_name("entry.py")
    entry.write_text(f"if __name__ == '__main__':\n    {program}\n")
    with log.open("ab") as file:
        command = [sys.executable, str(entry), "sweep", str(recipe), "--out", str(out), "--jobs", "2"]
        environment = {**os.environ, "PYTHONPATH": source}
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env=environment)
    BEGUN.append(process)
    return process


def done(out: Path) -> int:
    return len(list(out.glob("*/result.json")))


def free(disk: Path) -> int:
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def resize(disk: Path, size: int) -> bool:
    command = ["mount", "-o", f"remount,size={size}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def shrink(disk: Path) -> None:
    """Leave the disk nearly full; what is written meanwhile may need more."""
    for _ in range(100):
        used = os.statvfs(disk).f_blocks * os.statvfs(disk).f_frsize - free(disk)
        if resize(disk, used + 64 * 1024):
            return
    pytest.fail("the disk cannot be made smaller")


def wait_for(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    while process.poll() is None and done(out) < count:
        time.sleep(0.05)
    assert process.poll() is None


def table(folder: Path) -> str:
    return as_text(tabulate(read_records([folder]).records, Layout(costs=False)))


def test_ctrl_c_leaves_records_and_workers_end_with_the_process_that_began_them(
    playground: Path, tmp_path: Path
) -> None:
    recipe, out, log = playground / "long.toml", tmp_path / "runs", tmp_path / "log"
    text = (playground / "killed.toml").read_text().replace("steps = 6", "steps = 5000").replace('"Killed"', '"Long"')
    head, _, _ = text.partition("over.task")
    recipe.write_text(head.replace("[13, 21, 42]", "[13, 21]"))
    sweep = Sweep.of([load_study(recipe, out=str(out))])

    def working(process: subprocess.Popen[bytes]) -> None:
        """Wait until both runs write checkpoints of this attempt."""
        begun = time.time()
        while process.poll() is None:
            fresh = {path.parent for path in out.glob("*/checkpoints/*") if path.stat().st_mtime > begun + 1}
            if len(fresh) == 2:
                return
            time.sleep(0.1)
        pytest.fail(log.read_text())

    process = begin(recipe, out, log)
    working(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "interrupted; the same command makes what is not done" in log.read_text()
    records = read_records([out]).records
    assert [record.status for record in records] == ["cancelled", "cancelled"]
    process = begin(recipe, out, log)
    working(process)
    assert sweep.tally().count("running") == 2
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while sweep.tally().count("running") and time.monotonic() < end:
        time.sleep(0.1)
    tally = sweep.tally()
    assert [tally.count(state) for state in ("running", "failed", "to do")] == [0, 0, 2]


def test_kills_and_a_full_disk_change_nothing(playground: Path, small_disk: Path, tmp_path: Path) -> None:
    recipe, log = playground / "killed.toml", tmp_path / "log"
    out = small_disk / "runs"
    sweep = Sweep.of([load_study(recipe, out=str(out))])
    assert len(sweep.configs) == RUNS >= 200
    for share in KILLS:
        process = begin(recipe, out, log)
        wait_for(process, out, int(share * RUNS))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        left = sweep.tally()
        assert left.count("done") >= int(share * RUNS)
        assert left.count("failed") == 0
    process = begin(recipe, out, log)
    wait_for(process, out, int(0.85 * RUNS))
    shrink(small_disk)
    assert process.wait(120) == 1
    assert "No space left on device" in log.read_text()
    assert "the same command goes on where this one stopped" in log.read_text()
    assert sweep.tally().count("failed") == 0
    assert resize(small_disk, 512 << 20)
    assert begin(recipe, out, log).wait(600) == 0
    assert sweep.tally().count("done") == RUNS

    whole = tmp_path / "whole"
    assert begin(recipe, whole, log).wait(1200) == 0
    assert table(out) == table(whole)
    for config in sweep.configs.values():
        one, other = config.folder, whole / config.run_id
        assert (one / "predictions.jsonl").read_bytes() == (other / "predictions.jsonl").read_bytes()
