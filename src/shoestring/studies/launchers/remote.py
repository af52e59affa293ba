"""A run in a process that another program starts for us, on this machine or on another one of the same files."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig
    from shoestring.runs.limits import Limits
    from shoestring.studies.attempt import Attempts
    from shoestring.studies.launchers.base import Ended


def attempt(config: RunConfig, *, force: bool, limits: Limits | None, folder: str, threads: int) -> Ended:
    """Make a run, with relative paths meant from `folder`; nothing is raised but an interruption."""
    os.chdir(folder)
    return _attempts(threads).make(config, force=force, limits=limits)


@cache
def _attempts(threads: int) -> Attempts:
    import torch

    from shoestring.studies.attempt import Attempts

    torch.set_num_threads(threads)
    return Attempts(freeze=True)
