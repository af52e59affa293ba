from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from shoestring.errors import DuplicateNameError, UnknownNameError
from shoestring.methods.base import METHODS
from shoestring.models.scoring import SCORERS
from shoestring.prompts.demonstrations.base import DEMONSTRATIONS
from shoestring.registry import Registry
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.base import TUNINGS


def test_entries_are_found_by_name_and_listed_in_order() -> None:
    registry: Registry[str] = Registry("colour", package=None)
    assert registry.names() == ()
    registry.register("red")("r")
    assert registry.register("blue")("b") == "b"
    assert registry.get("red") == "r"
    assert registry.names() == ("blue", "red")
    assert list(registry.items()) == [("blue", "b"), ("red", "r")]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    registry: Registry[str] = Registry("colour", package=None)
    registry.register("red")("r")
    with pytest.raises(UnknownNameError, match="unknown colour 'rde'; did you mean 'red'"):
        registry.get("rde")


def test_two_entries_of_one_name_are_refused() -> None:
    registry: Registry[type] = Registry("shape", package=None)

    class Round: ...

    class Square: ...

    registry.register("round")(Round)
    registry.register("round")(Round)  # a module may be imported twice
    with pytest.raises(DuplicateNameError, match=r"shape 'round' is registered twice: .*Round and .*Square"):
        registry.register("round")(Square)


def test_a_package_is_imported_when_a_name_is_first_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "colours_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from shoestring.registry import Registry\nCOLOURS = Registry('colour', 'colours_of_a_test')\n"
    )
    for name in ("red", "blue"):
        (package / f"{name}.py").write_text(
            f"from colours_of_a_test import COLOURS\nCOLOURS.register({name!r})({name[0]!r})\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    import colours_of_a_test  # pyright: ignore[reportMissingImports]

    assert "colours_of_a_test.red" not in sys.modules
    assert colours_of_a_test.COLOURS.names() == ("blue", "red")


def test_a_package_that_failed_to_import_fails_again_and_is_whole_once_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "broken_colours"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from shoestring.registry import Registry\nCOLOURS = Registry('colour', 'broken_colours')\n"
    )
    good = "from broken_colours import COLOURS\nCOLOURS.register({0!r})({0!r})\n"
    (package / "blue.py").write_text(good.format("blue"))
    (package / "red.py").write_text("raise ImportError('paint is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import broken_colours  # pyright: ignore[reportMissingImports]

    for _ in range(2):
        with pytest.raises(ImportError, match="paint is missing"):
            broken_colours.COLOURS.names()
    (package / "red.py").write_text(good.format("red") + "# mended: of another size than before\n")
    importlib.invalidate_caches()
    assert broken_colours.COLOURS.names() == ("blue", "red")


@pytest.mark.parametrize(
    ("registry", "least"),
    [
        (METHODS, {"zero-shot", "adam", "sgd", "mezo"}),
        (TUNINGS, {"full", "lora", "bitfit"}),
        (OBJECTIVES, {"cross-entropy", "language-model", "accuracy", "regression"}),
        (SCORERS, {"masked", "causal", "head"}),
        (DEMONSTRATIONS, {"per-label", "gpt3", "in-context"}),
    ],
    ids=["methods", "tunings", "objectives", "scorers", "demonstrations"],
)
def test_every_file_of_a_catalogue_enters_something(registry: Registry[object], least: set[str]) -> None:
    assert least <= set(registry.names())


# Kinds that are nothing without a word of what.
NEEDED = {"pattern": {"pattern": "bias"}, "peft": {"method": "loha"}}


@pytest.mark.parametrize("registry", [METHODS, TUNINGS, DEMONSTRATIONS], ids=["methods", "tunings", "demonstrations"])
def test_settings_in_a_registry_have_defaults_and_are_told_by_the_name_they_are_registered_under(
    registry: Registry[type],
) -> None:
    for name, settings in registry.items():
        assert settings(**NEEDED.get(name, {})).kind == name
        assert settings.__doc__
