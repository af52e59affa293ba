from __future__ import annotations

import shlex
from typing import Any

import pytest

from runs.records import of_config, record
from shoestring.config import apply_overrides
from shoestring.runs.config import RunConfig, load_config
from shoestring.tables.commands import Budget, moved, run_command, toml_value
from shoestring.tables.table import Layout, tabulate

TABLES: dict[str, dict[str, Any]] = {
    "plain": {},
    "much": {
        "data": {
            "source": "my data/it's",
            "mode": "subset",
            "num_train": 8,
            "num_dev": 4,
            "text_columns": ["a b", "c"],
        },
        "prompt": {"label_words": {"1": "good", "0": "1e-3"}, "demonstrations": {"kind": "per-label", "samples": 2}},
        "method": {"kind": "adam", "lr": 1e-6, "betas": [0.8, 0.9], "weight_decay": 0.0},
        "tuning": {"kind": "lora", "targets": ["query"], "dora": True},
    },
    "hizoo": {"method": {"kind": "hizoo", "smoothing": [[0, 1e-6], [10, 0.0]]}},
    "kernel": {"method": {"kind": "kernel", "solver": {"kind": "ridge"}, "grid": {"f0_scaling": [1.0, 10.0]}}},
}
BASE = {"task": "SST-2", "model": {"kind": "masked", "name": "x"}, "method": {"kind": "mezo"}, "seed": 21}


def config(name: str) -> RunConfig:
    return load_config(None, table=BASE | TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_a_command_makes_the_very_run(name: str) -> None:
    wanted = config(name)
    command = run_command(wanted.model_dump(mode="json"), [21])
    assert command is not None
    program, verb, *keys = shlex.split(command)
    assert (program, verb) == ("shoestring", "run")
    assert load_config(None, keys).run_id == wanted.run_id


def test_a_command_names_several_seeds_and_where_runs_go() -> None:
    table = {**config("plain").model_dump(mode="json"), "output": {"folder": "my runs"}}
    command = run_command(table, [42, 21])
    assert command is not None
    assert command.endswith("--seeds 21,42 --out 'my runs'")


def test_what_a_line_cannot_say_has_no_command() -> None:
    dump = config("plain").model_dump(mode="json")
    assert run_command({**dump, "task": {**dump["task"], "version": 7}}, [1]) is None
    assert run_command({**dump, "method": {"kind": "of another version"}}, [1]) is None


@pytest.mark.parametrize("value", ["1e-6", "true", " x", "a\nb", "it's", "*cls**mask*", "", "[1]", 'say "so"', "é"])
def test_texts_are_read_as_they_were(value: str) -> None:
    assert apply_overrides({}, [f"key={toml_value(value)}"])["key"] == value


def test_a_config_moves_to_another_column() -> None:
    one, other = config("plain").model_dump(mode="json"), config("much").model_dump(mode="json")
    there = moved(one, other, "task")
    assert (there["data"]["source"], there["data"]["mode"]) == ("my data/it's", "k-shot")
    assert moved(one, other, "method")["tuning"]["kind"] == "lora"
    assert moved(one, other, "data.num_train")["data"]["num_train"] == 8


def test_few_commands_are_given_and_the_rest_is_counted() -> None:
    dump = config("plain").model_dump(mode="json")
    grid = [{**dump, "method": {**dump["method"], "lr": 10.0**-power}} for power in range(1, 6)]
    budget = Budget(left=4)
    first = budget.spend(grid, [13])
    assert len(first) == 4
    assert first[-1] == "  and 2 more settings of the grid"
    assert all(line.startswith("  shoestring run task=SST-2 ") for line in first[:3])
    assert len(budget.spend([{**dump, "data": {**dump["data"], "k": 4}}], [13])) == 1
    assert budget.spend([{**dump, "data": {**dump["data"], "k": 8}}], [13]) == []
    assert budget.rest() == ["commands for 1 more are left out"]


def test_of_settings_without_a_command_none_are_counted() -> None:
    dump = config("plain").model_dump(mode="json")
    own = {**dump, "task": {**dump["task"], "version": 7}}
    grid = [{**own, "method": {**own["method"], "lr": 10.0**-power}} for power in range(1, 6)]
    assert Budget().spend(grid, [13]) == []


def test_a_seed_that_several_tasks_lack_has_a_command_for_each() -> None:
    tasks = ("SST-2", "trec", "CoLA", "subj")
    runs = [of_config(load_config(None, table=BASE | {"task": task})) for task in tasks]
    notes = tabulate(runs, Layout(costs=False, seeds=(21, 42))).notes
    at = notes.index("missing seed 42: x, mezo")
    assert sorted(note.split()[2] for note in notes[at + 1 : at + 5]) == sorted(f"task={task}" for task in tasks)
    assert not any("of the grid" in note for note in notes)


def test_a_missing_seed_and_an_empty_cell_are_named_with_a_command() -> None:
    def made(seed: int, task: str, **more: Any) -> Any:
        return of_config(load_config(None, table=BASE | {"seed": seed, "task": task} | more))

    adam = {"method": {"kind": "adam"}}
    runs = [
        made(13, "SST-2"),
        made(21, "SST-2"),
        made(13, "trec"),
        made(13, "SST-2", **adam),
        made(21, "SST-2", **adam),
    ]
    notes = tabulate(runs, Layout(costs=False)).notes
    at = notes.index("missing seed 21: x, mezo in trec")
    assert notes[at + 1] == "  shoestring run task=trec model.kind=masked model.name=x method.kind=mezo seed=21"
    at = notes.index("missing: x, adam in trec")
    assert notes[at + 1] == "  shoestring run task=trec model.kind=masked model.name=x method.kind=adam --seeds 13,21"


def test_empty_cells_of_hyper_parameters_are_no_gaps() -> None:
    runs = [record(seed=13), record(seed=13, method="adam", method__lr=1e-3)]
    table = tabulate(runs, Layout(columns="method.lr", costs=False))
    assert not [note for note in table.notes if note.startswith("missing:")]
