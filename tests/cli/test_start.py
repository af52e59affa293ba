from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shoestring._version import __version__

HEAVY = ("torch", "transformers", "pandas", "datasets", "peft", "sklearn", "scipy")


def imported(environment: dict[str, str], *arguments: str, allow: tuple[str, ...] = ()) -> set[str]:
    code = (
        "import sys; sys.argv = ['shoestring', *sys.argv[1:]]\n"
        "from shoestring.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0", done.stderr
    return {*modules} & {*HEAVY, "pydantic", "numpy"} - {*allow}


def test_help_imports_nothing_heavy_not_even_pydantic(environment: dict[str, str]) -> None:
    assert imported(environment, "--help") == set()
    assert imported(environment, "run", "--help", allow=("pydantic",)) == set()  # typer itself takes pydantic


@pytest.mark.parametrize("arguments", [("tasks", "list"), ("tasks", "show", "trec"), ("tasks", "check", "SST-2")])
def test_looking_at_tasks_imports_neither_torch_nor_transformers_nor_pandas(
    environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    assert imported(environment, *arguments, allow=("pydantic", "numpy")) == set()


def test_tables_import_neither_torch_nor_transformers_nor_pandas(environment: dict[str, str], runs: Path) -> None:
    assert imported(environment, "table", str(runs), allow=("pydantic", "numpy")) == set()


def test_python_runs_the_package_too(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shoestring", "--version"], capture_output=True, text=True, env=environment, check=True
    )
    assert __version__ in done.stdout


def test_help_imports_little_more_than_a_typer_program_does(environment: dict[str, str]) -> None:
    """So it takes as long as typer and rich need: counted, since seconds are those of the machine's other work."""
    shout = "print(*sys.modules, file=sys.stderr)"
    ours, typers = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        for code in (
            "import sys, atexit; sys.argv = ['shoestring', '--help']\n"
            f"atexit.register(lambda: {shout})\n"
            "from shoestring.cli.main import main; main()",
            "import sys, typer, typer.core, typer.rich_utils\n" + shout,
        )
    )
    assert "Fine-tune language models" in ours.stdout
    more = {*ours.stderr.split()} - {*typers.stderr.split()}
    families = {name.partition(".")[0].removeprefix("_") for name in more}
    assert families <= {"shoestring", "typer", "click", "rich"} | {
        name.removeprefix("_") for name in sys.stdlib_module_names
    }
    own = {name for name in more if name.startswith("shoestring.")}
    assert {name for name in own if not name.startswith("shoestring.cli")} == {
        "shoestring._version",
        "shoestring.errors",
        "shoestring.memory",
    }
    assert len(more) < 80


def test_the_version_is_printed(process) -> None:
    assert process("--version").stdout == f"shoestring {__version__}\n"
