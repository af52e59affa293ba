"""Ctrl-C: held back while weights move and it is noted where they are."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any


class Uninterrupted:
    """A context that lets Ctrl-C wait until it is left.

    Python runs a signal's handler between two operations: right behind a kernel that moved weights, and before it is
    noted that they are elsewhere. Only the main thread runs handlers, and only those written in Python can raise there;
    of others nothing is changed.
    """

    def __init__(self) -> None:
        self._handler: Callable[..., Any] | None = None
        self._came = False

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._came:
                signal.raise_signal(signal.SIGINT)

    def _note(self, *_: object) -> None:
        self._came = True
