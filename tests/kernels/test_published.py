"""The kernel files of LM-Kernel-FT."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from shoestring.errors import KernelStoreError, OutputError
from shoestring.kernels import Published, read_published, write_published

KERNEL = torch.arange(24.0).view(2, 2, 3, 2).double()
LABELS = torch.tensor([0, 1, 0])


@pytest.mark.parametrize("flipped", [None, KERNEL + 1], ids=["one", "both"])
def test_what_is_written_is_read(tmp_path: Path, flipped: torch.Tensor | None) -> None:
    write_published(tmp_path / "k.pt", Published(KERNEL, LABELS, flipped))
    found = read_published(tmp_path / "k.pt")
    assert torch.equal(found.kernel, KERNEL)
    assert torch.equal(found.labels, LABELS)
    assert (found.flipped is None) == (flipped is None)
    assert flipped is None or (found.flipped is not None and torch.equal(found.flipped, flipped))
    # The layout is the published one: a tuple, both directions stacked.
    kernel, labels = torch.load(tmp_path / "k.pt", weights_only=True)
    assert kernel.shape == ((2, 2, 3, 2) if flipped is None else (2, 2, 2, 3, 2))
    assert torch.equal(labels, LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["k.pt"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save((KERNEL, Evil()), tmp_path / "k.pt")
    with pytest.raises(KernelStoreError, match="holds more than tensors, which is not loaded, or is damaged"):
        read_published(tmp_path / "k.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (KERNEL, "holds no kernel: a tuple of two tensors"),
        ((KERNEL, LABELS, LABELS), "holds no kernel: a tuple of two tensors"),
        ((KERNEL, [0, 1, 0]), "holds no kernel: a tuple of two tensors"),
        ((KERNEL, LABELS[:2]), r"a kernel of shape \[2, 2, 3, 2\] with labels of shape \[2\]; \[N, C, M, C\] or"),
        ((KERNEL[:, :1], LABELS), r"a kernel of shape \[2, 1, 3, 2\] with labels"),
        ((KERNEL[0], LABELS), r"a kernel of shape \[2, 3, 2\] with labels"),
    ],
)
def test_something_else_than_a_kernel_is_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "k.pt")
    with pytest.raises(KernelStoreError, match=message):
        read_published(tmp_path / "k.pt")


@pytest.mark.parametrize("size", [0, 10, 600])
def test_a_truncated_file_is_named(tmp_path: Path, size: int) -> None:
    write_published(tmp_path / "k.pt", Published(KERNEL, LABELS))
    content = (tmp_path / "k.pt").read_bytes()
    (tmp_path / "k.pt").write_bytes(content[:size])
    with pytest.raises(KernelStoreError, match="damaged"):
        read_published(tmp_path / "k.pt")


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelStoreError, match="there is no such file"):
        read_published(tmp_path / "k.pt")


def test_directions_of_different_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelStoreError, match=r"flipped \[2, 2, 2, 2\]: both have one shape"):
        write_published(tmp_path / "k.pt", Published(KERNEL, LABELS, KERNEL[:, :, :2]))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_published(tmp_path / "k.pt", Published(KERNEL, LABELS))

    def full(content: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"k.pt cannot be written: No space left on device"):
        write_published(tmp_path / "k.pt", Published(KERNEL + 1, LABELS))
    assert torch.equal(read_published(tmp_path / "k.pt").kernel, KERNEL)
    assert [path.name for path in tmp_path.iterdir()] == ["k.pt"]
