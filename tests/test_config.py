from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt, model_validator

from shoestring.config import Settings, apply_overrides, build, canonical_json, digest, essentials, load_toml, union_of
from shoestring.errors import ConfigError


class Circle(Settings):
    kind: Literal["circle"] = "circle"
    radius: PositiveInt = 1


class Square(Settings):
    kind: Literal["square"] = "square"
    side: float = 2.0
    colour: Literal["red", "blue"] = "red"


class Inner(Settings):
    depth: int = 0
    names: tuple[str, ...] = ()
    table: dict[str, int] = {}


class Outer(Settings):
    name: str
    shape: union_of([Circle, Square]) = Circle()  # pyright: ignore[reportInvalidTypeForm]
    inner: Inner = Inner()
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    several: tuple[Inner, ...] = ()

    @model_validator(mode="after")
    def _rule(self) -> Outer:
        if self.name == "forbidden":
            raise ValueError("name is forbidden; choose another")
        return self


def problems(table: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        build(Outer, table, "a.toml")
    return {problem.where: problem.what for problem in caught.value.problems}


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": (
        {"nmae": 1},
        "nmae",
        "unknown key; did you mean 'name'? Allowed: inner, name, several, shape, share",
    ),
    "unknown inner key": (
        {"inner": {"dept": 1}},
        "inner.dept",
        "unknown key; did you mean 'depth'? Allowed: depth, names, table",
    ),
    "unknown key of a choice": (
        {"shape": {"kind": "square", "sid": 1}},
        "shape.sid",
        "unknown key; did you mean 'side'? Allowed: colour, kind, side",
    ),
    "unknown kind": (
        {"shape": {"kind": "sqare"}},
        "shape.kind",
        "there is no 'sqare'; did you mean 'square'? Allowed: circle, square",
    ),
    "no kind": ({"shape": {"side": 1}}, "shape.kind", "is required. Allowed: circle, square"),
    "literal": (
        {"shape": {"kind": "square", "colour": "bleu"}},
        "shape.colour",
        "got 'bleu'; did you mean 'blue'? Allowed: blue, red",
    ),
    "not a number": ({"inner": {"depth": "deep"}}, "inner.depth", "got 'deep': should be a whole number"),
    "not positive": (
        {"shape": {"kind": "circle", "radius": 0}},
        "shape.radius",
        "got 0: input should be greater than 0",
    ),
    "out of range": ({"share": 1.5}, "share", "got 1.5: input should be less than 1"),
    "infinite": (
        {"shape": {"kind": "square", "side": float("inf")}},
        "shape.side",
        "got inf: input should be a finite number",
    ),
    "element": ({"inner": {"names": ["a", 1]}}, "inner.names.2", "got 1: should be a text, in quotes"),
    "key of an element": (
        {"several": [{}, {"dept": 1}]},
        "several.2.dept",
        "unknown key; did you mean 'depth'? Allowed: depth, names, table",
    ),
    "value of a table": ({"inner": {"table": {"a": "x"}}}, "inner.table.a", "got 'x': should be a whole number"),
    "not a table": ({"inner": 3}, "inner", 'got 3: should be a table, such as {a = "b"}'),
    "not a list": ({"inner": {"names": "a"}}, "inner.names", """got 'a': should be a list, such as ["a", "b"]"""),
    "not whole": ({"inner": {"depth": 1.5}}, "inner.depth", "got 1.5: should be a whole number"),
    "kind in place of a section": (
        {"shape": "square"},
        "shape",
        "got 'square': is a section of its own; write shape.kind=square. Allowed: circle, square",
    ),
    "own rule": ({"name": "forbidden"}, "", "name is forbidden; choose another"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_the_key_what_was_given_and_what_is_allowed(case: str) -> None:
    table, where, what = MISTAKES[case]
    found = problems({"name": "x"} | table)
    assert list(found) == [where]
    assert found[where].startswith(what)


def test_a_missing_key_is_named() -> None:
    assert problems({}) == {"name": "is required"}


def test_all_mistakes_are_named_at_once() -> None:
    found = problems({"shape": {"kind": "circle", "radius": 0}, "inner": {"dept": 1, "depth": "x"}, "other": 1})
    assert set(found) == {"name", "shape.radius", "inner.dept", "inner.depth", "other"}


def test_the_error_names_the_source_and_the_number_of_problems() -> None:
    with pytest.raises(ConfigError, match=r"^a\.toml: 1 problem\n  name: is required$"):
        build(Outer, {}, "a.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().depth = 3


def test_overrides_are_put_in_without_touching_the_original() -> None:
    table = {"a": {"b": 1}, "c": 2}
    texts = ["a.b=2", "a.d.e=[1, 2]", "f=true", "g=plain text", "h = 'quoted'", "i=1e-6", "j=a=b", "k={x = 1}", "l="]
    assert apply_overrides(table, texts) == {
        "a": {"b": 2, "d": {"e": [1, 2]}}, "c": 2, "f": True, "g": "plain text", "h": "quoted", "i": 1e-6, "j": "a=b",
        "k": {"x": 1}, "l": "",
    }  # fmt: skip
    assert table == {"a": {"b": 1}, "c": 2}


def test_the_last_of_two_overrides_wins() -> None:
    assert apply_overrides({}, ["a=1", "a=2"]) == {"a": 2}


def test_wrong_overrides_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"command line: 3 problems\n") as caught:
        apply_overrides({"a": 1}, ["novalue", "a.b=2", ".x=1", "c=3"])
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("novalue", "is not of the form section.key=value"),
        ("a.b", "'a' holds 1, which has no keys of its own"),
        (".x=1", "is not of the form section.key=value"),
    ]


values = st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))


@given(values)
def test_plain_values_come_through_an_override_as_they_are(value: float | bool) -> None:
    text = json.dumps(value)
    assert apply_overrides({}, [f"a={text}"]) == {"a": value}


def test_toml_files_are_read_and_their_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("a = 1\n")
    assert load_toml(path) == {"a": 1}
    path.write_text("a = 1\nb = \n")
    with pytest.raises(ConfigError, match=r"recipe\.toml: 1 problem\n  is not TOML: .*line 2"):
        load_toml(path)
    path.write_text("\ufeffa = 1")  # as Windows editors begin a file
    assert load_toml(path) == {"a": 1}
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="cannot be read: 'utf-8' codec"):
        load_toml(path)
    with pytest.raises(ConfigError, match=r"there is no such file; did you mean 'recipe\.toml'"):
        load_toml(tmp_path / "recipes.toml")
    with pytest.raises(ConfigError, match=r"is a folder, where a TOML file is meant; it holds recipe\.toml$"):
        load_toml(tmp_path)


def test_the_canonical_text_has_every_key_sorted_and_nothing_else() -> None:
    text = canonical_json(Outer(name="é", shape=Square()))
    assert text == (
        '{"inner":{"depth":0,"names":[],"table":{}},"name":"é","several":[],'
        '"shape":{"colour":"red","kind":"square","side":2.0},"share":null}'
    )


def test_essentials_are_what_is_not_at_its_default_and_every_kind() -> None:
    assert essentials(Outer(name="x", shape=Square())) == {"name": "x", "shape": {"kind": "square"}}
    assert essentials(Outer(name="x", shape=Square(), inner=Inner(depth=3))) == {
        "name": "x",
        "shape": {"kind": "square"},
        "inner": {"depth": 3},
    }


def test_the_digest_follows_values() -> None:
    one, same, other = Outer(name="a"), Outer(name="a", shape=Circle(radius=1), inner=Inner(depth=0)), Outer(name="b")
    assert digest(essentials(one)) == digest(essentials(same)) != digest(essentials(other))
    assert len(digest(essentials(one))) == 16


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=4), st.lists(st.text(max_size=4), max_size=3))
def test_settings_survive_their_canonical_text(table: dict[str, int], names: list[str]) -> None:
    settings = Outer(name="x", inner=Inner(table=table, names=tuple(names)))
    again = Outer.model_validate_json(canonical_json(settings))
    assert again == settings
    assert digest(essentials(again)) == digest(essentials(settings))


def test_the_order_of_a_tables_keys_does_not_change_the_digest() -> None:
    assert digest(essentials(Inner(table={"a": 1, "b": 2}))) == digest(essentials(Inner(table={"b": 2, "a": 1})))
