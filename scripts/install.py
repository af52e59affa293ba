"""Build the environment that `make` uses: a virtual environment with pinned packages.

A torch that the chosen Python already has (a CUDA build, say) is used, not replaced: the environment is made to see it,
and the pin of torch is dropped once it does. Everything else is pinned by constraints.txt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OLDEST_TORCH = (2, 6)
TOOLS = ("ruff", "basedpyright")
_PROBE = "import importlib.metadata as m; d = m.distribution('torch'); print(d.version, d.locate_file(''), sep='\\t')"


class Torch(NamedTuple):
    """An installed torch: its version, and the folder of packages it lies in."""

    version: str
    folder: Path


def main(folder: str) -> int:
    """Create (or refresh) the environment in `folder` and install the package into it, editable, with test tools."""
    if sys.version_info < (3, 11):  # noqa: UP036 - any Python may be asked to run this file
        sys.stderr.write(
            f"shoestring needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.11\n"
        )
        return 1
    there = find_torch(sys.executable)
    target = Path(folder)
    python = target / "bin" / "python"
    if not python.exists():
        create(target, there)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    torch = lent(find_torch(python), target, Path(sys.prefix))
    if torch is not None:
        sys.stdout.write(f"using the torch {torch.version} in {torch.folder}\n")
        pins = without_torch(pins)
    elif there is not None:
        sys.stdout.write(f"{folder} was made without the torch of {sys.executable}; delete {folder} to use that\n")
    constraints = target / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    # torch first and by its exact pin: asked for through another package's range, an installer may pick another build.
    torch_pin = [pin for pin in pins if pin.startswith("torch==")]
    for packages in (torch_pin, ["--editable", f"{ROOT}[dev]"]):
        if packages:
            subprocess.run([*pip, *packages], check=True)
    if missing := missing_tools(target):
        subprocess.run([*pip, "--ignore-installed", "--no-deps", *missing], check=True)
    return 0


def find_torch(python: str | Path) -> Torch | None:
    """Return the torch that a Python sees, if it is new enough; it is not imported."""
    done = subprocess.run([str(python), "-c", _PROBE], capture_output=True, text=True, check=False)
    version, _, folder = done.stdout.strip().partition("\t")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers or tuple(map(int, numbers.groups())) < OLDEST_TORCH:
        return None
    return Torch(version, Path(folder))


def create(target: Path, torch: Torch | None, *, with_pip: bool = True) -> None:
    """Create the environment, so that it sees `torch`."""
    shown = [] if torch is None else folders_to_show(torch, Path(sys.prefix), Path(sys.base_prefix))
    venv.EnvBuilder(with_pip=with_pip, system_site_packages=torch is not None and not shown).create(target)
    for packages in target.glob("lib/python*/site-packages"):
        if shown:
            (packages / "lent.pth").write_text("".join(f"{folder}\n" for folder in shown))


def folders_to_show(torch: Torch, prefix: Path, base_prefix: Path) -> list[Path]:
    """Return the folders that a new environment has to be shown by name.

    A virtual environment made by another sees the packages of the Python beneath both, but none of the other's own.
    """
    return [torch.folder] if prefix != base_prefix and _within(torch.folder, prefix) else []


def lent(torch: Torch | None, target: Path, prefix: Path) -> Torch | None:
    """Return the torch that the environment `target` sees, unless an earlier call of this script put it there.

    Where `target` is the very environment that runs this script (`make VENV=$VIRTUAL_ENV`), its torch is the user's.
    """
    if torch is None or (_within(torch.folder, target) and not _within(prefix, target)):
        return None
    return torch


def missing_tools(target: Path) -> list[str]:
    """Return the tools that make calls by their path but that pip left out, having seen them elsewhere."""
    return [tool for tool in TOOLS if not (target / "bin" / tool).exists()]


def without_torch(pins: list[str]) -> list[str]:
    """Return the pins but for that of torch."""
    return [pin for pin in pins if not pin.startswith("torch==")]


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
