"""Settings as plain values, so that a log can hold them, and back."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from shoestring.errors import TrajectoryError
from shoestring.zeroth.directions.base import Directions

_DIRECTIONS = "shoestring.zeroth.directions"


def is_plain(value: Any) -> bool:
    """Return whether an option is numbers, texts and collections of them, which a log can hold."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, int | float | str) or (isinstance(value, Tensor) and value.numel() == 1)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers, texts, lists; directions by what makes them.

    What cannot be said so becomes a note of its type; see `made`.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float):
        return {"number": repr(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"table": [[str(key), plain(item)] for key, item in value.items()]}
    return _directions(value) or {"own": type(value).__qualname__}


def made(name: str, value: Any) -> Any:
    """Return what `plain` was given.

    Raises:
        TrajectoryError: if it could not be said in plain values.
    """
    if isinstance(value, list):
        return [made(name, item) for item in value]
    if not isinstance(value, dict):
        return value
    if "number" in value:
        return float(value["number"])
    if "table" in value:
        return {key: made(name, item) for key, item in value["table"]}
    if "own" in value:
        raise TrajectoryError(
            f"the log cannot say what {name}={value['own']}(...) was; make the optimizer yourself and use catch_up"
        )
    if not value["module"].startswith(f"{_DIRECTIONS}."):
        raise TrajectoryError(f"{name}: {value['module']}.{value['class']} is no directions of this package")
    kind = getattr(import_module(value["module"]), value["class"])
    return kind(**{key: made(key, item) for key, item in value["arguments"].items()})


def _directions(value: Any) -> dict[str, Any] | None:
    """Return what makes directions of this package again: constructor arguments that they keep by the same names."""
    kind = type(value)
    if not isinstance(value, Directions) or not kind.__module__.startswith(f"{_DIRECTIONS}."):
        return None
    names = tuple(inspect.signature(kind).parameters)
    if not all(hasattr(value, name) for name in names):
        return None
    arguments = {name: plain(getattr(value, name)) for name in names}
    if any(isinstance(item, dict) and "own" in item for item in arguments.values()):
        return None
    return {"module": kind.__module__, "class": kind.__qualname__, "arguments": arguments}
