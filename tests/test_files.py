from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import shoestring
from shoestring.errors import OutputError
from shoestring.files import make_folder, saving, write_json, write_jsonl, write_text, writing


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_whole_and_readable_by_others(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "é", "a": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": "é",\n  "a": 1\n}\n'
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
    write_jsonl(tmp_path / "a.jsonl", ({"n": n} for n in range(2)))
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"n": 0}\n{"n": 1}\n'


@pytest.mark.parametrize("function", ["fsync", "chmod", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file_and_no_other(
    function: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    if function == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        monkeypatch.setattr(Path, function, full_disk)
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: No space left on device; .*output\.folder"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_while_the_rows_are_made_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [1])
    with pytest.raises(ZeroDivisionError):
        write_jsonl(path, (1 // n for n in (1, 0)))
    assert json.loads(path.read_text()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_numbers_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_what_it_leads_to_is_written_at_once(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a.txt").write_text("old")
    (tmp_path / "b.txt").symlink_to("a.txt")
    for name, target in (("a.txt", "kept/a.txt"), ("new.txt", "kept/new.txt")):
        (tmp_path / name).symlink_to(target)
    for name in ("b.txt", "new.txt"):  # A link to a link, and one to a file that is not there yet.
        write_text(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
    assert {path.name: path.read_text() for path in kept.iterdir()} == {"a.txt": "b.txt", "new.txt": "new.txt"}
    with pytest.raises(ZeroDivisionError):
        write_jsonl(tmp_path / "b.txt", (1 // n for n in (1, 0)))
    assert (kept / "a.txt").read_text() == "b.txt"
    assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize("through", ["itself", "a link"])
def test_a_pipe_is_written_to_and_stays(through: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    place = pipe if through == "itself" else tmp_path / "link"
    if place != pipe:
        place.symlink_to("pipe")
    there = sorted(tmp_path.iterdir())
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_jsonl(place, ({"n": n} for n in range(2)))
    assert read.result(timeout=10) == '{"n": 0}\n{"n": 1}\n'
    assert sorted(tmp_path.iterdir()) == there
    assert pipe.is_fifo()


def device(place: Path, number: int) -> Path:
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, number))
        with place.open("rb"):
            return place
    except (OSError, AttributeError):
        pytest.skip("devices cannot be made here")


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    (tmp_path / "link").symlink_to("null")
    for place in (null, tmp_path / "link"):
        write_text(place, "x")
    with pytest.raises(OutputError, match="full cannot be written: No space left on device"):
        write_text(full, "x")
    assert null.is_char_device()
    assert full.is_char_device()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["full", "link", "null"]


# What is printed before and after stands before and after, also in a file, which is not cut off.
STDOUT = """
import sys
from pathlib import Path
from shoestring.files import write_text
print("before")
write_text(Path(sys.argv[1]), "content\\n")
print("after")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("place", ["stdout", "link", "/proc/self/fd/1"])
@pytest.mark.parametrize("to", ["file", "pipe"])
def test_an_open_file_is_written_to_where_it_stands(place: str, to: str, tmp_path: Path) -> None:
    # As /dev/stdout is made, which root must not lose to a test.
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "link").symlink_to("stdout")
    out = tmp_path / "out.txt"
    out.write_text("there\n")
    environment = os.environ | {"PYTHONPATH": str(Path(shoestring.__file__).parent.parent)}
    with out.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-c", STDOUT, place],
            stdout=file if to == "file" else subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
            check=True,
        )
    told = out.read_text() if to == "file" else "there\n" + done.stdout.decode()
    assert told == "there\nbefore\ncontent\nafter\n"
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_symlink()) == ["link", "stdout"]


def test_a_link_that_leads_to_itself_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(OutputError, match="a cannot be written: Too many levels of symbolic links"):
        write_text(tmp_path / "a", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder cannot be written: Is a directory"):
        write_text(tmp_path / "folder", "x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "folder"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    with pytest.raises(OutputError, match="runs/a cannot be written: Not a directory"):
        make_folder(tmp_path / "runs" / "a")
    with pytest.raises(OutputError, match="runs cannot be written: a file of this name is there"):
        make_folder(tmp_path / "runs")


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError


# A disk with room for 20,000 bytes a file: libraries meet a real refusal, each says it in its own way.
FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import tokenizers, torch
from safetensors.torch import save_file
from shoestring.errors import OutputError
from shoestring.files import saving

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
place = Path(sys.argv[2])
weights = {"a": torch.zeros(10_000)}
words = tokenizers.Tokenizer(tokenizers.models.WordLevel({str(n): n for n in range(9_000)}, "0"))
for save in (
    lambda: save_file(weights, place / "a.safetensors"),
    lambda: torch.save(weights, place / "a.pt"),
    lambda: torch.save(weights, (place / "b.pt").open("wb")),
    lambda: torch.save(weights, place / "c.pt", _use_new_zipfile_serialization=False),
    lambda: torch.save({"a": torch.zeros(3)}, "/dev/full"),
    lambda: words.save(str(place / "tokenizer.json")),
    lambda: (place / "a.txt").write_text("x" * 30_000),
):
    try:
        with saving(place):
            save()
    except OutputError as error:
        print(str(error).removeprefix(str(place)))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_every_library_says_of_a_full_disk_is_told_in_one_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(Path(shoestring.__file__).parent.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [line.removesuffix("; choose another place with output.folder=...") for line in done.stdout.splitlines()]
    assert len(told) == 7
    assert all(line.startswith(" cannot be written: ") for line in told)
    for number in (0, 2, 5, 6):
        assert told[number].endswith("File too large"), told[number]
    for number in (1, 3, 4):
        assert "the disk may be full (" in told[number], told[number]


def test_an_error_that_is_not_the_disks_passes_unchanged_while_saving(tmp_path: Path) -> None:
    for error in (RuntimeError("CUDA out of memory"), ValueError("shared tensors"), KeyError("a")):
        with pytest.raises(type(error), match=str(error.args[0])), saving(tmp_path):
            raise error


def test_a_tree_that_cannot_be_copied_is_named_with_the_first_reason(tmp_path: Path) -> None:
    files = [("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'"), ("c", "d", "something else")]
    wanted = "^here cannot be written: No space left on device; choose"
    with pytest.raises(OutputError, match=wanted), writing(Path("here")):
        raise shutil.Error(files)
