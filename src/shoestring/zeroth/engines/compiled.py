"""Compiled code: run as it was written, where other tensors are put in the place of weights."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which `torch.compile` compiles nothing, and what it has compiled runs as it was written.

    The compiler would trace the modes that replace weights, at which it fails. A step that is itself compiled gets no
    such context: what is being traced cannot be told to stop.
    """
    # What has not been imported, which takes a second, has not compiled anything.
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
