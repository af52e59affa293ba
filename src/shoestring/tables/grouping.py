"""Which runs a table may put together: labels of rows and columns, and whatever else tells runs apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from shoestring.errors import UnknownNameError
from shoestring.runs.identity import identity_of
from shoestring.runs.record import Record
from shoestring.tables.one_folder import names_of_models

Key = str
Order = tuple[Any, ...]
TASK, MODEL, METHOD, SEED = "task", "model", "method", "seed"
NOTHING = "–"  # noqa: RUF001 - an en dash, as tables have it
_LONGEST = 40
# A label is one line in every format: a template's line breaks are shown as TOML writes them.
_BREAKS = {ord(char): escaped for char, escaped in (("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t"))}
_FILE = "task.file"
# Which keys each label speaks for.
_COVERS: dict[Key, tuple[Key, ...]] = {
    TASK: (TASK,),
    MODEL: ("model.name", "model.kind"),
    METHOD: ("method.kind", "method.objective", "tuning.kind"),
}
# Sections whose settings are never chosen among on dev, and further keys like that.
_IDENTITY = ("data.", "model.", "prompt.")
_IDENTITY_KEYS = (TASK, _FILE, *_COVERS[METHOD], "method.begin")
# These differ between tasks by nature; they tell runs apart where they differ within one task.
_OF_THE_TASK = ("data.source", "data.test_source", "data.text_columns", "data.label_column", "data.revision")
_OF_THE_TASK += ("data.tests", _FILE)


@dataclass(frozen=True)
class Mark:
    """A row or a column, told from others by the settings it stands for.

    Attributes:
        identity: those settings.
        texts: what people read: for a row, one text a label column.
        order: its place among the others.
    """

    identity: tuple[str, ...]
    texts: tuple[str, ...] = field(compare=False)
    order: Order = field(compare=False)

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return ", ".join(text for text in self.texts if text and text != NOTHING)


@dataclass(frozen=True)
class Labels:
    """Says which row and which column a run belongs to.

    Attributes:
        rows: keys of the label columns.
        columns: key of the result columns.
        telling: further keys that runs differ in and that no table may mix; their values are a column of their own.
        names: key -> value -> its short text, no two alike.
        kinds_differ: whether the models are of more than one kind.
        flat: settings of each run as `flatten` makes them, by its identity as an object.
    """

    rows: tuple[Key, ...]
    columns: Key
    telling: tuple[Key, ...]
    names: dict[Key, dict[str, str]]
    kinds_differ: bool
    flat: dict[int, tuple[Record, dict[Key, Any]]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, records: Sequence[Record], rows: Sequence[Key], columns: Key, *, every_trial: bool) -> Labels:
        """Find out what tells `records` apart.

        Raises:
            UnknownNameError: if `rows` or `columns` name a key that no run has.
        """
        models = names_of_models(records)
        flat = [flatten(record) for record in records]
        for settings in flat:
            settings["model.name"] = models[settings["model.name"]]
        keys = sorted({key for settings in flat for key in settings})
        for key in (*rows, columns):
            if key not in keys and key not in _COVERS:
                raise UnknownNameError("key", key, [*_COVERS, *(key for key in keys if key not in (TASK, _FILE))])
        covered = {SEED, *(inner for key in (*rows, columns) for inner in _COVERS.get(key, (key,)))}
        telling = tuple(
            key for key in keys if key not in covered and (every_trial or is_identity(key)) and _differs(key, flat)
        )
        names = {key: _texts(key, flat) for key in ("model.name", *rows, columns, *telling) if key in keys}
        kinds = {settings["model.kind"] for settings in flat}
        # The records are kept with their settings, so that no other object comes to have the identity of one.
        known = {id(record): (record, settings) for record, settings in zip(records, flat, strict=True)}
        return cls(tuple(rows), columns, telling, names, len(kinds) > 1, known)

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of the label columns, no two alike."""
        tails = Counter(key.rpartition(".")[2] for key in self.rows)
        short = ((key, key.rpartition(".")[2]) for key in self.rows)
        return (*(tail if tails[tail] == 1 else key for key, tail in short), *(("setting",) if self.telling else ()))

    def settings(self, record: Record) -> dict[Key, Any]:
        """Return a run's settings as `flatten` does, made once for each run."""
        if (known := self.flat.get(id(record))) is not None:
            return known[1]
        return flatten(record)

    def row(self, record: Record) -> Mark:
        """Return the row of a run."""
        flat = self.settings(record)
        texts = [self._label(key, flat) for key in self.rows]
        order: list[Any] = [self._order(key, flat, record) for key in self.rows]
        if self.telling:
            texts.append(self._setting(flat))
            order.append(tuple(natural(flat.get(key)) for key in self.telling))
        keys = [*(inner for key in self.rows for inner in _COVERS.get(key, (key,))), *self.telling]
        return Mark(_identity(keys, flat), tuple(texts), tuple(order))

    def column(self, record: Record) -> Mark:
        """Return the column of a run."""
        flat, key = self.settings(record), self.columns
        text = self._label(key, flat)
        if key not in _COVERS:
            text = f"{key.rpartition('.')[2]}={text}"
        return Mark(_identity(_COVERS.get(key, (key,)), flat), (text,), self._order(key, flat, record))

    def _label(self, key: Key, flat: dict[Key, Any]) -> str:
        if key == MODEL:
            name = self.names["model.name"][_text(flat["model.name"])]
            return f"{name} ({flat['model.kind']})" if self.kinds_differ and name != flat["model.kind"] else name
        if key == METHOD:
            tuning, objective = flat["tuning.kind"], flat.get("method.objective")
            more = [f" + {tuning}"] if tuning != "full" else []
            more += [f", {objective}"] if objective is not None else []
            return flat["method.kind"] + "".join(more)
        return NOTHING if flat.get(key) is None else self.names[key][_text(flat[key])]

    def _order(self, key: Key, flat: dict[Key, Any], record: Record) -> Order:
        if key != METHOD:
            return natural(self._label(key, flat) if key in _COVERS else flat.get(key))
        # The cheaper kinds first: no training, forward passes only, backward passes.
        passes = record.passes
        cost = (passes is not None and passes.backward > 0, passes is not None and passes.forward > 0)
        return (*cost, natural(self._label(key, flat)))

    def _setting(self, flat: dict[Key, Any]) -> str:
        tails = Counter(key.rpartition(".")[2] for key in self.telling)
        parts: list[str] = []
        for key in self.telling:
            if flat.get(key) is not None:
                tail = key.rpartition(".")[2]
                name = TASK if key == _FILE else tail if tails[tail] == 1 else key
                parts.append(f"{name}={self.names[key][_text(flat[key])]}")
        return ", ".join(parts) or NOTHING


def flatten(record: Record) -> dict[Key, Any]:
    """Return a run's config as `flat_config` does."""
    return flat_config(record.config)


def flat_config(given: Mapping[str, Any]) -> dict[Key, Any]:
    """Return a config as `section.key` -> value, but for what changes no number; the task is name and digest.

    >>> flat_config({"task": {"name": "trec"}, "data": {"k": 16}, "seed": 13})
    {'task': 'trec', 'task.file': 'v1-ae4bdf', 'data.k': 16, 'seed': 13}
    """
    config = identity_of(given)
    task = config["task"]
    flat: dict[Key, Any] = {TASK: task["name"], _FILE: f"v{task.get('version', 1)}-{_task_digest(task)}"}
    for section, settings in config.items():
        if section != TASK and isinstance(settings, dict):
            flat |= {f"{section}.{key}": value for key, value in settings.items() if value != {}}
    return {**flat, SEED: config["seed"]}


def natural(value: Any) -> tuple[int, float, str]:
    """Return a key that sorts numbers as numbers, then texts without regard to case, then what is not given."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), str(value))
    return (2, 0.0, "") if value is None else (1, 0.0, _text(value).casefold())


def is_identity(key: Key) -> bool:
    """Return whether runs that differ in this setting never share a cell; among the others, dev chooses."""
    return key in _IDENTITY_KEYS or key.startswith(_IDENTITY)


def _differs(key: Key, flat: Sequence[dict[Key, Any]]) -> bool:
    """Return whether runs differ in a key: within one task for what is the task's own, within one method kind else."""
    values: dict[Any, set[str]] = defaultdict(set)
    for settings in flat:
        if key in _OF_THE_TASK or key.startswith("prompt."):
            scope = settings[TASK]
        elif not is_identity(key):
            scope = (settings["method.kind"], settings["tuning.kind"])
        else:
            scope = None
        values[scope].add(_text(settings.get(key)))
    return any(len(found) > 1 for found in values.values())


def _task_digest(task: dict[str, Any]) -> str:
    text = json.dumps(task, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _texts(key: Key, flat: Iterable[dict[Key, Any]]) -> dict[str, str]:
    """Return a short text for each value of a key, no two alike."""
    values = sorted({_text(settings[key]) for settings in flat if settings.get(key) is not None})
    if key in ("model.name", "data.source", "data.test_source"):
        return _tails(values)
    lines = {value: value.translate(_BREAKS) for value in values}
    short = {value: text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…" for value, text in lines.items()}
    counts = Counter(short.values())
    return {
        value: text if counts[text] == 1 else f"{text} #{hashlib.sha256(value.encode()).hexdigest()[:4]}"
        for value, text in short.items()
    }


def _tails(paths: Sequence[str]) -> dict[str, str]:
    """Return the last parts of each path, as few as tell it from the others.

    >>> _tails(["models/a/base", "models/b/base", "large"])
    {'models/a/base': 'a/base', 'models/b/base': 'b/base', 'large': 'large'}
    """
    tails: dict[str, str] = {}
    for path in paths:
        parts = PurePath(path).parts
        for count in range(1, len(parts) + 1):
            tail = parts[-count:]
            if all(PurePath(other).parts[-count:] != tail for other in paths if other != path):
                tails[path] = str(PurePath(*tail))
                break
        else:
            tails[path] = path
    return tails


def _identity(keys: Iterable[Key], flat: dict[Key, Any]) -> tuple[str, ...]:
    return tuple(json.dumps(flat.get(key), sort_keys=True) for key in keys)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
