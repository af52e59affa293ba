"""A registry of named choices: it loads every module of its package, so adding an entry is adding a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from shoestring.errors import DuplicateNameError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one kind ("method", "tuning", ...), found by importing every module of `package`.

    Loading is lazy: nothing is imported until a name is asked for, so the command line starts fast.

    >>> shapes: Registry[type] = Registry("shape", package=None)
    >>> @shapes.register("round")
    ... class Round: ...
    >>> shapes.get("round") is Round
    True
    """

    def __init__(self, kind: str, package: str | None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = package is None

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters an object under `name`.

        Raises:
            DuplicateNameError: if another object already has the name.
        """

        def enter(entry: T) -> T:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: {_origin(known)} and {_origin(entry)}"
                )
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            UnknownNameError: if there is none; names the nearest.
        """
        entries = self._load()
        if name not in entries:
            raise UnknownNameError(self.kind, name, entries)
        return entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._load()))

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over (name, entry), sorted by name."""
        return iter(sorted(self._load().items()))

    def _load(self) -> dict[str, T]:
        if not self._loaded and self._package is not None:
            self._loaded = True  # Already here: a module of the package may ask for what stands before it.
            try:
                package = importlib.import_module(self._package)
                for module in pkgutil.iter_modules(package.__path__):
                    importlib.import_module(f"{self._package}.{module.name}")
            except BaseException:
                self._loaded = False  # Or whoever asks next would take a part for the whole.
                raise
        return self._entries


def _origin(entry: object) -> str:
    return f"{getattr(entry, '__module__', '?')}.{getattr(entry, '__qualname__', repr(entry))}"
