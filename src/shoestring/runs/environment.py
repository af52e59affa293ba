"""Where a run was made: versions, machine, commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

import shoestring
from shoestring._version import __version__
from shoestring.products import library

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "numpy", "scikit-learn")


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a reader of the record needs to make the run again."""
    return {
        "shoestring": __version__,
        **_commit(),
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({_processor()})",
        "threads": torch.get_num_threads(),
        "products": library() if device.type == "cpu" else "torch",
    }


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@cache
def _commit() -> dict[str, str | bool | None]:
    """Return the commit of the source this package runs from, and whether files differ from it; None outside git."""
    folder = Path(shoestring.__file__).parent
    head = _git(folder, "rev-parse", "HEAD")
    tracked = _git(folder, "ls-files", "--error-unmatch", "errors.py") is not None
    if head is None or not tracked:
        return {"commit": None, "dirty": None}
    return {"commit": head.strip(), "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
