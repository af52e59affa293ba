"""Blocks of rows in several processes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from shoestring.errors import KernelError

FORMULAS = ("sgd", "asymmetric-signgd")


def request() -> Any:
    from torch import nn

    from kernels.vectors import of_points, points
    from shoestring.kernels import Request

    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).float()
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=stream))
    return Request(of_points(model), points(7, 3, 5, dtype=torch.float32), None, FORMULAS)


def one_of(rank: int, size: int, folder: str) -> None:
    """Compute what `size` processes compute, as one of them, with a store and without one."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from shoestring.kernels import KernelSettings, compute_kernels

    place = Path(folder)
    start = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", start, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    try:
        settings = KernelSettings(block_rows=2, batch_size=2)
        found = compute_kernels(request(), settings, store=place / "store")
        apart = compute_kernels(request(), settings)
        texts = {}
        for name, changes in (("few", {"block_rows": 7}), ("broken", {})):
            asked = request()
            if name == "broken" and rank == 1:
                asked = _breaking(asked)
            try:
                compute_kernels(asked, settings.model_copy(update=changes))
            except Exception as error:  # reported to the test
                texts[name] = f"{type(error).__name__}: {error}"
        torch.save(({n: k.values for n, k in found.items()}, {n: k.values for n, k in apart.items()}, texts),
                   place / f"{rank}.pt")  # fmt: skip
    finally:
        distributed.destroy_process_group()


def _breaking(asked: Any) -> Any:
    import dataclasses

    calls = [0]
    collate = asked.outputs.collate

    def broken(items: Any) -> Any:
        calls[0] += 1
        if calls[0] > 9:  # those before are digests and the probe's
            raise ValueError("no such example")
        return collate(items)

    return dataclasses.replace(asked, outputs=dataclasses.replace(asked.outputs, collate=broken))


def test_processes_share_blocks_and_all_have_the_kernel_of_one_process_bit_for_bit(tmp_path: Path) -> None:
    from shoestring.kernels import KernelSettings, compute_kernels, read_kernels

    before = torch.get_num_threads()
    try:
        alone = compute_kernels(request(), KernelSettings(block_rows=2, batch_size=2))
    finally:
        torch.set_num_threads(before)
    multiprocessing.spawn(one_of, (2, str(tmp_path)), nprocs=2)
    (folder,) = (tmp_path / "store").iterdir()
    stored = read_kernels(folder)
    for rank in range(2):
        found, apart, texts = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for formula in FORMULAS:
            assert torch.equal(found[formula], alone[formula].values)
            assert torch.equal(apart[formula], alone[formula].values)
            assert torch.equal(stored[formula].values, alone[formula].values)
        assert texts["few"].startswith("KernelError: 2 processes, but 1 blocks of rows to compute: set block_rows")
        expected = "KernelError: process 1 of 2 failed: ValueError: no such example" if rank == 0 else "ValueError"
        assert texts["broken"].startswith(expected)


def test_one_process_computes_every_block() -> None:
    from shoestring.kernels.processes import is_first, mine

    assert mine(3) == [0, 1, 2]
    assert is_first()


def test_more_processes_than_blocks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.kernels import processes

    monkeypatch.setattr(processes, "_place", lambda: (1, 4))
    assert processes.mine(6) == [1, 5]
    with pytest.raises(KernelError, match="4 processes, but 3 blocks of rows to compute: set block_rows"):
        processes.mine(3)
