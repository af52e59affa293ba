"""Captured gradients that wait in a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.subjects import ALL, subject
from kernels.test_blocks import footprints
from kernels.vectors import Deep, of_points, points
from shoestring.bench.peaks import peak_of
from shoestring.errors import KernelError, OutputError
from shoestring.kernels import KernelSettings, Projection, Request, compute_kernels
from shoestring.kernels.pieces import Flat, Outer
from shoestring.kernels.plan import MIB, Sizes, make_plan
from shoestring.kernels.sides import Compact, Dense, OneHot
from shoestring.kernels.spool import Spooled


@pytest.mark.parametrize("own", [False, True], ids=["others", "themselves"])
@pytest.mark.parametrize("model", ["roberta", "llama-tied", "gpt2"])
def test_a_kernel_of_gradients_that_waited_in_a_file_is_the_same_bit_for_bit(
    model: str, own: bool, tmp_path: Path
) -> None:
    one = subject(model, difference=False)
    columns = None if own else one.items[3:]
    requests = [
        Request(one.outputs, one.items[:3], columns, ALL, layerwise=True),
        Request(one.outputs, one.items[:3], columns, projection=Projection(1, 4)),
    ]
    for request in requests:
        settings = KernelSettings(batch_size=2, block_rows=2)
        kept = compute_kernels(request, settings)
        spooled = compute_kernels(request, settings, scratch=tmp_path / "scratch")
        for formula, kernel in kept.items():
            assert torch.equal(spooled[formula].values, kernel.values)
            assert torch.equal(spooled[formula].row_norms, kernel.row_norms)
        assert not list((tmp_path / "scratch").iterdir())


def test_pieces_are_read_as_they_were_and_what_they_share_is_written_once(tmp_path: Path) -> None:
    values = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    shared = Dense(values)
    first = Outer(Dense(values.half().transpose(2, 3).contiguous().transpose(2, 3)), shared)
    second = Outer(Compact(values.bfloat16(), torch.arange(4)), shared)
    third = Outer(OneHot(torch.tensor([[1, 2, 1], [0, 0, 3]])), shared)
    spool = Spooled(tmp_path)
    spool.put({"a": (first, second), "b": (third,), "c": ()})
    spool.put({"a": (Flat(values.double()),), "b": (), "c": (Flat(values[:, :, 1:]),)})
    sizes = [48 + 96, 48 + 32, 48, 192, 2 * 2 * 4 * 4]
    assert spool._end == sum(sizes)
    (one, two), (flat,) = spool.batches("a")
    for found, expected in ((one, first), (two, second)):
        assert [t.dtype for t in found.tensors()] == [t.dtype for t in expected.tensors()]
        assert all(torch.equal(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))
    assert torch.equal(next(flat.tensors()), values.double())
    (only,), nothing = spool.batches("b")
    assert nothing == ()
    assert all(torch.equal(a, b) for a, b in zip(only.tensors(), third.tensors(), strict=True))
    assert torch.equal(next(spool.batches("c")[1][0].tensors()), values[:, :, 1:])
    assert not list(tmp_path.iterdir())
    spool.close()


class Full:
    """A file on a disk that takes a few bytes and no more."""

    def __init__(self, file: Any) -> None:
        self.file, self.left = file, 5

    def write(self, data: Any) -> int:
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        return self.file.write(data[:100])

    def close(self) -> None:
        self.file.close()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.kernels import spool

    real = spool.tempfile.TemporaryFile
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **given: Full(real(**given)))
    one = subject("roberta")
    with pytest.raises(OutputError, match="scratch cannot be written: No space left on device"):
        compute_kernels(Request(one.outputs, one.items), scratch=tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    spool = Spooled(tmp_path)
    spool.put({"a": (Flat(torch.ones(2, 1, 3, 1)),)})
    spool._file.truncate(10)
    with pytest.raises(OutputError, match="captured gradients has been cut short"):
        spool.batches("a")
    spool.close()


def test_with_a_file_one_pass_is_enough_in_memory_that_would_ask_for_several(tmp_path: Path) -> None:
    sizes, routes = Sizes(40, 40, symmetric=False, sums=1), footprints([20_000] * 12)
    settings = KernelSettings(memory=4, batch_size=8)
    assert len(make_plan(routes, sizes, settings).groups) > 1
    plan = make_plan(routes, sizes, settings, spooled=True)
    assert (len(plan.groups), len(plan.rows), plan.tile) == (1, 1, 40)
    assert 80 * 20_000 + plan.chunk <= 4 * MIB
    with pytest.raises(KernelError, match="memory=1 MiB is too little"):
        make_plan(footprints([1 << 20]), sizes, KernelSettings(memory=1), spooled=True)
    items = points(48, 16, 64, dtype=torch.float32)  # 48 * 12 * 2 * 16 * 64 numbers are captured: 4.5 MiB
    request = Request(of_points(Deep(64, 12)), items[:24], items[24:])
    held = peak_of(lambda: compute_kernels(request, KernelSettings(batch_size=2)))
    less = peak_of(lambda: compute_kernels(request, KernelSettings(batch_size=2), scratch=tmp_path))
    assert less < held / 3
