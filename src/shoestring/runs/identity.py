"""Which settings decide the numbers of a run. Nothing heavy is imported here: tables need it, and no config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What changes no number: where results go, what people may reword, how often a line is logged.
_NO_NUMBER: dict[str, Any] = {
    "output": True,
    "task": {"title": True, "golden": True, "labels": {"__all__": {"title": True}}},
    "method": {"log_every": True},
}


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the numbers in a config of plain JSON values, such as a record has."""
    return _without(config, _NO_NUMBER)


def _without(value: Any, leave: dict[str, Any]) -> Any:
    if (inner := leave.get("__all__")) is not None:
        return [_without(item, inner) for item in value]
    return {
        key: _without(item, leave[key]) if isinstance(leave.get(key), dict) else item
        for key, item in value.items()
        if leave.get(key) is not True
    }
