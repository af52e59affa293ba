"""The shape of the source: who imports whom, how long things are, what is never written."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shoestring

PACKAGE = Path(shoestring.__file__).parent
# A file imports only from its own room and from those before it.
ROOMS = (
    "_version", "errors", "registry", "seeds", "config", "progress", "memory", "products", "hub", "files", "tasks",
    "data", "prompts", "models", "tuning", "zeroth", "kernels", "training", "methods", "runs", "tables", "studies",
    "report", "demo", "bench", "cli",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]
MAX_FILE, MAX_FUNCTION = 400, 60


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything of this package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "shoestring":
                yield from ((node.lineno, f"shoestring.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_file_imports_only_from_its_own_room_and_those_before_it(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"{path} is in no room: add it to the order here and in ARCHITECTURE.md"
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "shoestring" and len(parts) > 1:
            assert parts[1] in allowed, f"{path}:{line} imports {name}, but {room} comes before {parts[1]}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_source_has_neither_assert_nor_print_nor_a_path_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert"
        printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not printed, f"{path}:{getattr(node, 'lineno', 0)}: print"
    for place in ("/work/", "/home/", "/root/", "/Users/"):
        assert place not in text


def test_a_config_is_read_without_the_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "datasets", "pandas", "peft", "sklearn", "scipy")
    table = '{"task": "SST-2", "model": {"kind": "masked", "name": "x"}, "method": {"kind": "mezo"}}'
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "import shoestring.tasks.load, shoestring.data.splits, shoestring.prompts.encoding, shoestring.cli.main\n"
        "from shoestring.runs.config import load_config\n"
        f"load_config(None, table={table})\n"
        f"print(*[name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
