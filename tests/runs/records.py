"""Records made up for tests of tables: no model, no file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shoestring.runs.config import RunConfig
from shoestring.runs.record import Memory, PassCounts, Record, Weights
from shoestring.tasks.load import load_task

PASSES = {"zero-shot": (0, 0), "mezo": (2000, 0), "adam": (1000, 1000), "sgd": (1000, 1000)}
Settings = dict[str, Any]


def record(
    test: float | dict[str, float] = 0.5,
    *,
    dev: float = 0.5,
    dev_loss: float = 0.7,
    status: str = "ok",
    error: str | None = None,
    metric: str | None = None,
    finished: str = "2025-01-01T00:00:00+00:00",
    **settings: Any,
) -> Record:
    """Return a record; `settings` are keys of the config with `__` for the dot, such as method__lr=1e-6."""
    config = _config(settings)
    text = json.dumps({**config, "output": None}, sort_keys=True)
    main = metric or config["task"]["metrics"][0]
    tests = test if isinstance(test, dict) else {"test": test}
    metrics = {
        "dev": {main: dev, "loss": dev_loss},
        **{name: {main: value, "loss": 0.6} for name, value in tests.items()},
    }
    forward, backward = PASSES[config["method"]["kind"]]
    numbers: Settings = {
        "metrics": metrics,
        "passes": PassCounts(
            forward=forward, backward=backward, forward_examples=8 * forward, backward_examples=8 * backward
        ),
        "seconds": {"fit": forward / 100, "predict": 1.5},
        "memory": Memory(weights=80 << 20, fit=(backward or 1) << 16, predict=3 << 20, how="VmHWM"),
        "weights": Weights(total=22_000_000, trained=22_000_000),
    }
    return Record.model_validate(
        {
            "run_id": hashlib.sha256(text.encode()).hexdigest()[:16],
            "status": status,
            "error": error,
            "config": config,
            "started": "2025-01-01T00:00:00+00:00",
            "finished": finished,
            **(numbers if status == "ok" else {}),
        }
    )


def of_config(config: RunConfig, test: float = 0.5, *, dev: float = 0.5) -> Record:
    """Return the record of a finished run of a config."""
    metric = config.task.metric
    return Record.model_validate(
        {
            "run_id": config.run_id,
            "status": "ok",
            "config": config.model_dump(mode="json"),
            "metrics": {name: {metric: value, "loss": 0.7} for name, value in (("dev", dev), ("test", test))},
            "started": "2025-01-01T00:00:00+00:00",
            "finished": "2025-01-01T00:00:00+00:00",
        }
    )


def _config(settings: Settings) -> Settings:
    given = dict(settings)
    task = load_task(given.pop("task", "SST-2")).model_dump(mode="json")
    kind = given.pop("method", "mezo")
    method = {"kind": kind} if kind == "zero-shot" else {"kind": kind, "lr": 1e-6, "steps": 1000, "objective": None}
    config: Settings = {
        "task": task,
        "data": {"source": "data", "mode": "k-shot", "k": 16, "max_test": None},
        "model": {"kind": "masked", "name": "models/minilm-mlm", "dtype": "float32"},
        "prompt": {"template": None, "label_words": {}},
        "tuning": {"kind": "full"},
        "method": method,
        "seed": given.pop("seed", 13),
        "output": {"folder": "runs"},
    }
    for path, value in given.items():
        section, _, key = path.partition("__")
        config[section] = {**config[section], key: value} if key else value
    return config
