"""A cache of built folders: an entry is complete or absent, and a damaged one is built again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shoestring.errors import OutputError

VARIABLE = "SHOESTRING_CACHE"
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
STALE_SECONDS = 24 * 3600


def root(given: Path | None = None) -> Path:
    """Return the cache folder: `given`, else $SHOESTRING_CACHE, else shoestring under the user's cache folder."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG rules say that a relative path there is to be ignored.
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "shoestring"


def obtain(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder` after making sure it holds a complete entry; `make(empty folder)` writes one where there is none.

    The entry is written beside its place and moved there at the end, so a killed process leaves no half entry. Two
    processes may build at once; the first to finish is used by both.

    Raises:
        OutputError: if the entry must be written and the disk refuses; names $SHOESTRING_CACHE.
    """
    if sound(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    except OSError as error:
        raise _refused(folder.parent, error) from error
    try:
        make(work)
        _sign(work)
        _place(work, folder)
    except OSError as error:
        raise _refused(folder.parent, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def sound(folder: Path) -> bool:
    """Return whether every file that the entry's manifest names is there, unchanged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(_digest(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sign(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _place(work: Path, folder: Path) -> None:
    if sound(folder):
        return
    # mkdtemp makes folders for this user only; a cache may be shared.
    work.chmod(0o755)
    damaged = work.with_name(work.name + "-damaged")
    try:
        if folder.exists():
            os.replace(folder, damaged)
        os.replace(work, folder)
    except OSError:
        # Another process may have placed its entry in between; then that one serves.
        if not sound(folder):
            raise
    finally:
        shutil.rmtree(damaged, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what processes killed a day or more ago left unfinished."""
    for path in parent.glob(f"{UNFINISHED}*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refused(folder: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot write the cache folder {folder}: {reason}. "
        f"Set {VARIABLE} to a folder that can be written, with room to spare"
    )
