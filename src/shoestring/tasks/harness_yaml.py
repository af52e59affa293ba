"""The harness's YAML: files that include others, and name Python functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoestring.errors import ConfigError, Problem, suggest


@dataclass(frozen=True)
class Function:
    """A Python function that a file names with `!function`; it is never loaded."""

    name: str


def read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return what a file says, on top of the files it includes.

    Raises:
        ConfigError: if a file is missing, is not YAML, is no mapping, or includes itself.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads `!function` as a name."""

    Loader.add_constructor("!function", lambda loader, node: Function(str(loader.construct_scalar(node))))  # pyright: ignore[reportArgumentType]
    if path.resolve() in seen:
        raise ConfigError(str(path), [Problem("include", "the file includes itself")])
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        near = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(str(path), [Problem("", f"{error.strerror}{suggest(path.name, near)}")]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [Problem("", f"is not YAML: {' '.join(str(error).split())}")]) from None
    if not isinstance(found, dict):
        raise ConfigError(str(path), [Problem("", "is not a task of the harness: it holds no keys")])
    own: dict[str, Any] = {str(key): value for key, value in found.items()}
    include = own.pop("include", None)
    base: dict[str, Any] = {}
    for name in [include] if isinstance(include, str) else include or ():
        base |= read_yaml(path.parent / str(name), (*seen, path.resolve()))
    return base | own
