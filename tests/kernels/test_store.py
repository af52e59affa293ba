"""Kernels on disk: resumed, read back, damaged, and a disk that is full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.subjects import ALL, Subject, subject
from shoestring.errors import KernelStoreError, OutputError
from shoestring.kernels import KernelSettings, Request, compute_kernels, read_kernels
from shoestring.kernels import compute as compute_module
from shoestring.kernels import store as store_module
from shoestring.kernels.plan import Plan
from shoestring.kernels.routes import Routes

FORMULAS = (*ALL, "asymmetric-signgd-flipped")


class Seen:
    """A progress that adds up what is announced and what is done."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Seen]:
        self.total += total
        yield self

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def note(self, text: str) -> None:
        pass


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """Examples whose kernel is made in two blocks of three groups each."""

    def plan(routes: Routes, *_: Any, **__: Any) -> Plan:
        names = tuple(routes.params)
        return Plan(((0, 3), (3, 5)), 2, (names[:5], names[5:10], names[10:]), chunk=1 << 20)

    monkeypatch.setattr(compute_module, "make_plan", plan)
    return subject("roberta")


def compute(one: Subject, place: Path | None, progress: Any = None, **changes: Any) -> dict[str, Any]:
    request = Request(one.outputs, one.items, None, FORMULAS, **changes)
    return compute_kernels(request, KernelSettings(batch_size=2), store=place, progress=progress)


def folder_of(place: Path) -> Path:
    (found,) = place.iterdir()
    return found


def identical(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, kernel in one.items():
        for field in ("values", "row_norms", "column_norms", "row_outputs", "column_outputs"):
            assert torch.equal(getattr(kernel, field), getattr(other[name], field))
        assert kernel.rows == other[name].rows
        assert kernel.columns == other[name].columns
        assert kernel.description == other[name].description
        identical(dict(kernel.layers), dict(other[name].layers))


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["others", "themselves"])
def test_what_is_stored_is_read_back_bit_for_bit(one: Subject, tmp_path: Path, own: bool, layerwise: bool) -> None:
    columns = None if own else one.items[:4]
    request = Request(one.outputs, one.items, columns, FORMULAS, layerwise=layerwise)
    found = compute_kernels(request, store=tmp_path / "store")
    identical(read_kernels(folder_of(tmp_path / "store")), found)
    identical(compute_kernels(request), found)


class StopError(Exception):
    """The power fails."""


@pytest.mark.parametrize("saves", [1, 2, 3, 4, 5])
def test_a_killed_computation_goes_on_where_it_stopped(
    one: Subject, tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, passes = compute(one, tmp_path / "whole"), Seen()
    compute(one, None, passes)
    real, left = store_module.KernelStore.save, [saves]

    def failing(store: Any, *given: Any) -> None:
        real(store, *given)
        left[0] -= 1
        if left[0] == 0:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(store_module.KernelStore, "save", failing)
        with pytest.raises(StopError):
            compute(one, tmp_path / "store")
    folder = folder_of(tmp_path / "store")
    with pytest.raises(KernelStoreError, match=r"is not finished: block \d of 2 is missing a part"):
        read_kernels(folder)
    rest = Seen()
    identical(compute(one, tmp_path / "store", rest), whole)
    assert 0 < rest.total < passes.total
    assert rest.total - 2 <= rest.done <= rest.total
    identical(read_kernels(folder), whole)
    again = Seen()
    compute(one, tmp_path / "store", again)
    assert (again.total, again.done) == (0, 0)


def test_the_progress_announced_is_what_is_done(one: Subject) -> None:
    seen = Seen()
    compute(one, None, seen)
    # Five examples and, of the first block, two columns, three times; products are next to nothing.
    assert 3 * 7 <= seen.done <= seen.total <= seen.done + 1


def test_whatever_a_kernel_depends_on_has_a_place_of_its_own(one: Subject, tmp_path: Path) -> None:
    compute(one, tmp_path)
    names = one.names()
    variants: list[dict[str, Any]] = [
        {"parameters": names[:20]},
        {"layerwise": True},
        {"masks": {names[0]: torch.ones(400, 32, dtype=torch.bool)}},
    ]
    for number, changes in enumerate(variants):
        compute(one, tmp_path, **changes)
        assert len(list(tmp_path.iterdir())) == 2 + number
    other = subject("bert")
    for request in (
        Request(other.outputs, other.items, None, FORMULAS),
        Request(one.outputs, one.items[:4], one.items, FORMULAS),
        Request(one.outputs, [*one.items[1:], one.items[0]], None, FORMULAS),
        Request(one.outputs, one.items, None, ("sgd",)),
    ):
        before = len(list(tmp_path.iterdir()))
        compute_kernels(request, KernelSettings(batch_size=2), store=tmp_path)
        assert len(list(tmp_path.iterdir())) == before + 1
    weight = dict(one.outputs.model.named_parameters())[names[3]]
    with torch.no_grad():
        kept = weight[0].clone()
        weight[0] += 1e-12
    try:
        before = len(list(tmp_path.iterdir()))
        compute(one, tmp_path)
        assert len(list(tmp_path.iterdir())) == before + 1
    finally:
        with torch.no_grad():
            weight[0] = kept


def damaged(content: bytes, how: str) -> bytes:
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    middle = len(content) - 40
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("how", ["truncated", "empty", "changed"])
def test_a_damaged_block_is_named(one: Subject, tmp_path: Path, how: str) -> None:
    compute(one, tmp_path)
    folder = folder_of(tmp_path)
    block = folder / "block-00001.safetensors"
    block.write_bytes(damaged(block.read_bytes(), how))
    for work in (lambda: read_kernels(folder), lambda: compute(one, tmp_path)):
        with pytest.raises(
            KernelStoreError, match=r"block-00001.safetensors is damaged \(.*\); delete it, and what it"
        ):
            work()
    block.unlink()
    compute(one, tmp_path)
    read_kernels(folder)


def test_a_block_of_another_kernel_is_named(one: Subject, tmp_path: Path) -> None:
    compute(one, tmp_path)
    folder = folder_of(tmp_path)
    (folder / "block-00001.safetensors").write_bytes((folder / "block-00000.safetensors").read_bytes())
    with pytest.raises(KernelStoreError, match="it holds other tensors than its kernel has"):
        read_kernels(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no kernel: there is no kernel.json"),
        ("{", r"kernel.json is damaged \(Expecting"),
        ("[]", r"kernel.json is damaged \(it is not of format 1\)"),
    ],
)
def test_a_folder_without_a_kernel_is_named(one: Subject, tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "kernel.json").write_text(text)
    with pytest.raises(KernelStoreError, match=message):
        read_kernels(tmp_path)


def test_a_folder_that_was_made_for_another_kernel_is_refused(one: Subject, tmp_path: Path) -> None:
    compute(one, tmp_path)
    path = folder_of(tmp_path) / "kernel.json"
    manifest = json.loads(path.read_text())
    manifest["description"]["rows"] = "of another seed"
    path.write_text(json.dumps(manifest))
    with pytest.raises(KernelStoreError, match="is of another kernel: it differs in rows; choose another place"):
        compute(one, tmp_path)


def test_a_full_disk_leaves_no_half_written_block(
    one: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = store_module.save_file, [3]

    def full(tensors: Any, path: str, metadata: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            Path(path).write_bytes(b"half")
            raise store_module.SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
        real(tensors, path, metadata)

    whole = compute(one, None)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "save_file", full)
        with pytest.raises(OutputError, match=r"block-00000.safetensors cannot be written: No space left on device"):
            compute(one, tmp_path)
    folder = folder_of(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["block-00000.safetensors", "kernel.json"]
    identical(compute(one, tmp_path), whole)
