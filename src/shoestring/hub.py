"""The Hugging Face hub, where it cannot be reached.

with hub_mode(name):
    AutoModel.from_pretrained(name)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

_MINUTE = 60


@contextmanager
def hub_mode(name: str) -> Iterator[None]:
    """Put the hub's libraries in their offline mode while the block lasts, where its host cannot be found.

    They find their copies then, or say that there is none. Otherwise they would ask five times, for most of a minute.

    Args:
        name: what is to be loaded; nobody asks the hub for a folder.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or Path(name).is_dir() or _is_found(constants.ENDPOINT, int(time.time()) // _MINUTE):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@lru_cache(maxsize=2)
def _is_found(endpoint: str, minute: int) -> bool:
    """Return whether the address of an endpoint is known here, or is a proxy's to know; looked up once a minute."""
    if {"https", "http", "all"} & getproxies().keys():
        return True
    where = urlsplit(endpoint)
    try:
        socket.getaddrinfo(where.hostname, where.port or 443)
    except OSError:
        return False
    return True
