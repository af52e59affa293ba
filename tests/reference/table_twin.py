"""Tables, slowly: one loop over everything for every cell, no shared code with `shoestring.tables.table`."""

from __future__ import annotations

import math

from shoestring.runs.record import Record

Cell = tuple[str, str, int]
"""A task, a kind of method, a k: what the records of the test differ in beside hyper-parameters and seed."""


def cells(records: list[Record]) -> set[Cell]:
    found = set()
    for record in records:
        if record.status == "ok":
            found.add((record.config["task"]["name"], record.config["method"]["kind"], record.config["data"]["k"]))
    return found


def chosen(records: list[Record], cell: Cell, higher_is_better: bool = True) -> dict[int, Record]:
    """Return seed -> the run that counts, by comparing every pair of candidates."""
    picked: dict[int, Record] = {}
    for record in records:
        if record.status != "ok" or record not in _candidates(records, cell, record.config["seed"]):
            continue
        rivals = _candidates(records, cell, record.config["seed"])
        if all(rival is record or _beats(record, rival, higher_is_better) for rival in rivals):
            picked[record.config["seed"]] = record
    return picked


def mean_and_sd(numbers: list[float]) -> tuple[float, float]:
    total = 0.0
    for number in numbers:
        total += number
    mean = total / len(numbers)
    squares = 0.0
    for number in numbers:
        squares += (number - mean) ** 2
    return mean, math.sqrt(squares / len(numbers))


def _candidates(records: list[Record], cell: Cell, seed: int) -> list[Record]:
    found = []
    for record in records:
        config = record.config
        here = (config["task"]["name"], config["method"]["kind"], config["data"]["k"])
        if record.status == "ok" and here == cell and config["seed"] == seed:
            found.append(record)
    return found


def _beats(one: Record, other: Record, higher_is_better: bool) -> bool:
    metric = one.config["task"]["metrics"][0]
    mine, theirs = one.metrics["dev"][metric], other.metrics["dev"][metric]
    if mine != theirs:
        return (mine > theirs) == higher_is_better
    if one.metrics["dev"]["loss"] != other.metrics["dev"]["loss"]:
        return one.metrics["dev"]["loss"] < other.metrics["dev"]["loss"]
    return one.run_id < other.run_id
