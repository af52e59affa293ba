"""Fixtures every test may use: nothing here downloads, and nothing depends on the order of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shoestring", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("shoestring")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data kept beside the repository, or skip where it is absent."""
    folder = Path(os.environ.get("SHOESTRING_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data folder {folder}")
    return folder
