"""Benchmarks as on a processor for which torch's own products are the fastest, whatever this one is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def torchs_products() -> Iterator[None]:
    """Race no floor with other products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoestring.bench.contestants.onednn", lambda: None)
        yield
