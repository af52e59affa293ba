"""Small original files of every tsv task, odd rows included: short ones, long ones, and last lines without newline."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from shoestring.tasks.load import load_task

if TYPE_CHECKING:
    from pathlib import Path

MODES = ("k-shot", "k-shot-10x", "k-shot-1k-test")
WORDS = ["the", "film", '"good"', "it's", "a,b", "ünïcode", "50%", "(NN dog)"]
COLUMNS = {
    "SST-2": "{a}\t{y}",
    "CoLA": "src\t{y}\t\t{a}",
    "MRPC": "{y}\t1\t2\t{a}\t{b}",
    "QQP": "1\t2\t3\t{a}\t{b}\t{y}",
    "STS-B": "0\tg\tf\ty\t1\ts\tt\t{a}\t{b}\t{y}",
    "MNLI": "0\t1\t2\tg\tp\tq\tr\ts\t{a}\t{b}\t{y}\t{y}",
    "SNLI": "0\t1\t2\tp\tq\tr\ts\t{a}\t{b}\t{y}\t{y}",
    "QNLI": "0\t{a}\t{b}\t{y}",
    "RTE": "0\t{a}\t{b}\t{y}",
}


def tsv_lines(task: str, count: int, seed: int, labels: tuple[str, ...]) -> list[str]:
    chance = random.Random(seed)
    lines = []
    for row in range(count):
        label = f"{chance.randint(0, 50) / 10:.3f}" if task == "STS-B" else chance.choice(labels)
        a, b = (" ".join(chance.choices(WORDS, k=chance.randint(1, 5))) for _ in "ab")
        line = COLUMNS[task].format(a=f"{row} {a}", b=b, y=label)
        if task == "SNLI" and chance.random() < 0.2:
            line += f"\t{label}\t\t{label}"
        if task == "QQP" and chance.random() < 0.05:
            line = "\t".join(line.split("\t")[:4])
        lines.append(line)
    return lines


def originals(folder: Path, task: str, *, train: int, dev: int, seed: int) -> None:
    folder.mkdir(parents=True)
    labels = load_task(task).label_names
    end = "\r\n" if seed % 2 else "\n"
    header = [] if task == "CoLA" else ["\ufeff" * (task == "MRPC") + COLUMNS[task].format(a="A", b="B", y="Y")]
    devs = ["dev_matched", "dev_mismatched"] if task == "MNLI" else ["dev"]
    for place, name in enumerate(["train", *devs]):
        lines = header + tsv_lines(task, dev if place else train, seed + place, labels)
        ended = end if seed % 3 else ""
        (folder / f"{name}.tsv").write_bytes((end.join(lines) + ended).encode())
