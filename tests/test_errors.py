from __future__ import annotations

import ast
import inspect
import pickle
from pathlib import Path

import pytest

from shoestring import errors
from shoestring.errors import (
    ConfigError,
    DataError,
    NonFiniteLossError,
    NonFiniteScoreError,
    Problem,
    ShoestringError,
    UnknownNameError,
    suggest,
)

HERE = Path(__file__)
NAMED = [name for name, entry in inspect.getmembers(errors, inspect.isclass) if issubclass(entry, ShoestringError)]


@pytest.mark.parametrize("name", [name for name in NAMED if name != "ShoestringError"])
def test_every_error_is_met_by_a_test_that_looks_at_its_message(name: str) -> None:
    def meets(path: Path) -> bool:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "raises" else None
            if call is not None and name in ast.dump(call) and any(word.arg == "match" for word in call.keywords):
                return True
        return False

    assert any(meets(path) for path in HERE.parent.rglob("test_*.py"))


@pytest.mark.parametrize("name", NAMED)
def test_every_error_is_raised_somewhere_and_is_one_of_ours(name: str) -> None:
    assert issubclass(getattr(errors, name), ShoestringError)
    if name == "ShoestringError":
        return
    source = Path(errors.__file__).parent
    assert any(
        f"{name}(" in path.read_text(encoding="utf-8") for path in source.rglob("*.py") if path.name != "errors.py"
    )


def test_a_suggestion_names_the_nearest_whatever_the_case_and_what_is_allowed() -> None:
    assert suggest("MEZZO", ["Adam", "MeZO"]) == "; did you mean 'MeZO'? Allowed: Adam, MeZO"
    assert suggest("xyz", ["b", "a"]) == ". Allowed: a, b"
    assert suggest("xyz", []) == ""
    # The beginning of a long name, unless several begin so.
    assert suggest("0A1", ["0a1b2c3d4e5f6789", "f0a1b2c3d4e5f678"]).startswith("; did you mean '0a1b2c3d4e5f6789'?")
    assert suggest("0a1", ["0a1b2c3d4e5f6789", "0a1b2c3d4e5f6780"]).startswith(". Allowed")
    assert suggest("", ["0a1b2c3d4e5f6789"]).startswith(". Allowed")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("superglue/cb", "'CB'"),
        ("superglue/rte", "'mezo/RTE'"),
        ("superglue/mezo", "'mezo'"),
        ("pet/CB", "'pet/cb-2'"),
        ("mezzo/CBB", "'mezo/CB'"),
    ],
)
def test_behind_an_unknown_folder_the_same_last_part_is_the_nearest(given: str, meant: str) -> None:
    names = ["superglue-cbs", "mezo", "pet/cb-2", "mezo/RTE", "mezo/CB", "CB"]
    assert suggest(given, names).startswith(f"; did you mean {meant}?")


def test_long_lists_of_names_are_shortened() -> None:
    assert suggest("zzz", [f"name{n:02}" for n in range(15)]).endswith("name10, name11 and 3 more")


def test_the_text_of_each_error_says_where_and_what() -> None:
    assert (
        str(ConfigError("a.toml", [Problem("k", "bad"), Problem("", "worse")]))
        == "a.toml: 2 problems\n  k: bad\n  worse"
    )
    assert str(ConfigError("a.toml", [Problem("k", "bad")])).startswith("a.toml: 1 problem\n")
    assert str(UnknownNameError("task", "x", ["y"], where="recipe")) == "recipe: unknown task 'x'. Allowed: y"
    assert str(DataError("a.tsv", "is empty")) == "a.tsv: is empty"
    assert str(DataError("a.tsv", "is empty", line=3)) == "a.tsv, line 3: is empty"


def test_many_examples_are_shortened() -> None:
    uids = [f"train:{n}" for n in range(10)]
    assert str(NonFiniteLossError(3, float("nan"), uids)).endswith("train:7, ...]; a smaller method.lr usually helps")
    advised = NonFiniteLossError(3, float("nan"), uids, ["a smaller method.eps", "model.dtype=float32"])
    assert str(advised).endswith("; a smaller method.eps or model.dtype=float32 usually helps")
    assert "the scores of 10 examples are not finite (train:0" in str(NonFiniteScoreError(uids))
    assert str(NonFiniteScoreError(uids)).endswith(
        "train:7, ...); half precision overflows in some models: where model.dtype is one, try float32"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a.toml", [Problem("k", "bad")]),
        UnknownNameError("task", "sst", ["SST-2"]),
        DataError("a.csv", "is empty", 3),
        NonFiniteLossError(4, float("inf"), ["train:1"]),
        NonFiniteScoreError(["test:0"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes_whole(error: ShoestringError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), vars(arrived)) == (str(error), vars(error))
