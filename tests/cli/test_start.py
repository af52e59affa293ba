from __future__ import annotations

import resource
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


def test_help_takes_less_than_three_tenths_of_a_second(environment: dict[str, str], program: list[str]) -> None:
    def seconds() -> float:
        """Processor time: that of a busy machine's other work is not ours."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*program, "--help"], env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_the_version_is_printed(process) -> None:
    assert process("--version").stdout == f"shoestring {__version__}\n"
