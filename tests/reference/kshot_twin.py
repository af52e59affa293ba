"""The published k-shot procedure, step by step: whole lists of lines, pandas for csv, a fresh generator a shuffle.

Written from the description of the procedure, to be slow and obvious; `shoestring.data.kshot` is tested against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

TSV_LABEL_COLUMN = {"CoLA": 1, "MRPC": 0}
TSV = {"SST-2", "CoLA", "MRPC", "QQP", "STS-B", "MNLI", "SNLI", "QNLI", "RTE"}


def publish(data: Path, out: Path, task: str, k: int, mode: str, seeds: list[int]) -> None:
    """Write the folders of all seeds, in the order of `seeds`."""
    (publish_tsv if task in TSV else publish_csv)(data / task, out / mode / task, task, k, mode, seeds)


def publish_tsv(data: Path, out: Path, task: str, k: int, mode: str, seeds: list[int]) -> None:
    devs = ["dev_matched", "dev_mismatched"] if task == "MNLI" else ["dev"]
    files = {name: lines_of(data / f"{name}.tsv") for name in ["train", *devs]}
    # CoLA has no header, so its own list is shuffled again and again; the others shuffle a copy without the header.
    headers = {name: [] if task == "CoLA" else lines[:1] for name, lines in files.items()}
    for seed in seeds:
        bodies = {name: lines if task == "CoLA" else lines[1:] for name, lines in files.items()}
        np.random.RandomState(seed).shuffle(bodies["train"])
        folder = out / f"{k}-{seed}"
        folder.mkdir(parents=True)
        for dev in devs:
            body = bodies[dev]
            if mode == "k-shot-1k-test" and len(body) > 1000:
                np.random.RandomState(42).shuffle(body)
                body = body[:1000]
            write(folder / f"{dev.replace('dev', 'test')}.tsv", headers[dev] + body)
        groups: dict[object, list[str]] = {}
        for line in bodies["train"]:
            label: object = line.strip().split("\t")[TSV_LABEL_COLUMN.get(task, -1)]
            if task == "STS-B":
                label = float(str(label)) >= 2.5
            groups.setdefault(label, []).append(line)
        last = 11 * k if mode == "k-shot-10x" else 2 * k
        write(folder / "train.tsv", headers["train"] + [line for rows in groups.values() for line in rows[:k]])
        write(folder / f"{devs[0]}.tsv", headers["train"] + [line for rows in groups.values() for line in rows[k:last]])


def publish_csv(data: Path, out: Path, task: str, k: int, mode: str, seeds: list[int]) -> None:
    train, test = (pd.read_csv(data / f"{name}.csv", header=None) for name in ("train", "test"))
    for seed in seeds:
        rows = train.to_numpy().tolist()
        np.random.RandomState(seed).shuffle(rows)
        folder = out / f"{k}-{seed}"
        folder.mkdir(parents=True)
        small = mode == "k-shot-1k-test" and len(test) > 1000
        (test.sample(n=1000, random_state=42) if small else test).to_csv(folder / "test.csv", header=False, index=False)
        groups: dict[object, list[list[object]]] = {}
        for row in rows:
            groups.setdefault(row[0], []).append(row)
        last = 11 * k if mode == "k-shot-10x" else 2 * k
        for name, start, stop in (("train", 0, k), ("dev", k, last)):
            chosen = pd.DataFrame([row for rows in groups.values() for row in rows[start:stop]])
            chosen.to_csv(folder / f"{name}.csv", header=False, index=False)


def lines_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return file.readlines()


def write(path: Path, lines: list[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
