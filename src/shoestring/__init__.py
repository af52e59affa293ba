"""shoestring: fine-tune language models with a handful of labels, a handful of weights, or no backward pass at all.

>>> import shoestring
>>> shoestring.load_task("SST-2").metric
'accuracy'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shoestring._version import __version__

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig, load_config
    from shoestring.runs.export import export_run
    from shoestring.runs.loaded import load_run
    from shoestring.runs.record import Record
    from shoestring.runs.run import run
    from shoestring.tasks.load import load_task, task_names
    from shoestring.zeroth.optimizers.mezo import MeZO

__all__ = [
    "MeZO",
    "Record",
    "RunConfig",
    "__version__",
    "export_run",
    "load_config",
    "load_run",
    "load_task",
    "run",
    "task_names",
]

# Where each public name lives: imported when first used, so that `import shoestring` costs nothing.
_HOMES = {
    "MeZO": "shoestring.zeroth.optimizers.mezo",
    "Record": "shoestring.runs.record",
    "RunConfig": "shoestring.runs.config",
    "export_run": "shoestring.runs.export",
    "load_config": "shoestring.runs.config",
    "load_run": "shoestring.runs.loaded",
    "load_task": "shoestring.tasks.load",
    "run": "shoestring.runs.run",
    "task_names": "shoestring.tasks.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shoestring' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
