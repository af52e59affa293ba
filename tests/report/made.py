"""Folders of runs made up for tests of reports: records, logs and predictions that fit together, no model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runs.records import record
from shoestring.files import write_jsonl
from shoestring.report.logs import Logs
from shoestring.runs.collect import read_records
from shoestring.runs.record import Record, write_record

SEEDS = (13, 21, 42)
EVIL = "<s>\"a</script><script>alert('no')</script>&amp; <!-- great --> \u2028\x01 It was<mask>.</s>"
Row = dict[str, Any]


def put(place: Path, run: Record, *, curve: Iterable[Row] = (), rows: Iterable[Row] = ()) -> Record:
    """Write a run's folder; return the run."""
    folder = place / run.run_id
    folder.mkdir(parents=True)
    write_jsonl(folder / "metrics.jsonl", curve)
    write_jsonl(folder / "predictions.jsonl", rows)
    write_record(folder, run)
    return run


def logs(place: Path) -> Logs:
    return Logs(read_records([place]))


def predictions(
    labels: Sequence[str], right: float, seed: int, *, count: int = 24, prompt: str | None = EVIL
) -> list[Row]:
    """Return predictions of which a share is right, the first of them hard and with a prompt."""
    stream = random.Random(f"{seed} {right}")
    rows: list[Row] = []
    for at in range(count):
        true = at % len(labels)
        hit = at >= 3 and stream.random() < right
        said = true if hit else (true + 1) % len(labels)
        scores = [round(stream.uniform(-3, -1), 3) for _ in labels]
        scores[said] = 0.0 if at >= 3 else 2.0
        row = {
            "split": "test",
            "uid": f"test:{at}",
            "label": labels[true],
            "prediction": labels[said],
            "scores": scores,
        }
        rows.append(row | ({"prompt": prompt} if prompt is not None and at < 3 else {}))
    return rows


def accuracy(rows: Sequence[Row]) -> float:
    return sum(row["label"] == row["prediction"] for row in rows) / len(rows)


def curve(steps: int, every: int, top: float, *, metric: str = "accuracy") -> list[Row]:
    """Return a log: losses, and evaluations on dev every so many steps."""
    lines: list[Row] = []
    for step in range(every, steps + 1, every):
        lines.append({"step": step, "loss": 1.0 / step, "lr": 1e-3})
        lines.append({"step": step, f"eval_{metric}": top * step / steps, "eval_loss": 2.0 / step})
    return lines


METHODS: tuple[Row, ...] = (
    {"method": "zero-shot"},
    *({"method": "mezo", "method__lr": lr} for lr in (1e-7, 1e-6, 1e-5)),
    {"method": "adam", "method__lr": 1e-5},
    *({"method": "adam", "tuning": {"kind": "lora", "r": r}} for r in (1, 4, 16)),
)


def study(place: Path, tasks: Sequence[str] = ("SST-2", "trec"), seeds: Sequence[int] = SEEDS) -> list[Record]:
    """Write runs of several methods, tunings and seeds; return their records."""
    return [one(place, task, seed, number) for task in tasks for seed in seeds for number in range(len(METHODS))]


def one(place: Path, task: str, seed: int, number: int) -> Record:
    settings, right = METHODS[number], 0.5 + 0.05 * number
    labels = [label["name"] for label in record(task=task).config["task"]["labels"]]
    rows = predictions(labels, right, seed)
    run = record(accuracy(rows), dev=right, task=task, seed=seed, **settings)
    steps = 0 if settings["method"] == "zero-shot" else 40
    changes: Row = {"facts": {"steps": steps, "selected_step": steps} if steps else {}}
    if "tuning" in settings and run.weights is not None:
        changes["weights"] = run.weights.model_copy(update={"trained": 1000 * settings["tuning"]["r"]})
    run = run.model_copy(update=changes)
    return put(place, run, curve=curve(steps, 10, right) if steps else (), rows=rows)


def data_of(page: str) -> Row:
    """Return the data that a page carries."""
    text = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    return json.loads(text)
