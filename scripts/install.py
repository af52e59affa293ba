"""Build the environment that `make` uses: a virtual environment with pinned packages.

A torch that the chosen Python already has (a CUDA build, say) is used, not replaced: the environment then sees the
packages of that Python, and the pin of torch is dropped. Everything else is pinned by constraints.txt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_TORCH = (2, 6)


def main(folder: str) -> int:
    """Create (or refresh) the environment in `folder` and install the package into it, editable, with test tools."""
    if sys.version_info < (3, 11):  # noqa: UP036 - any Python may be asked to run this file
        sys.stderr.write(
            f"shoestring needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.11\n"
        )
        return 1
    own_torch = installed_torch()
    target = Path(folder)
    python = target / "bin" / "python"
    if not python.exists():
        venv.EnvBuilder(with_pip=True, system_site_packages=own_torch is not None).create(target)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    if own_torch is not None:
        sys.stdout.write(f"using the torch {own_torch} that {sys.executable} already has\n")
        pins = [pin for pin in pins if not pin.startswith("torch==")]
    constraints = target / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    # torch first and by its exact pin: asked for through another package's range, an installer may pick another build.
    torch_pin = [pin for pin in pins if pin.startswith("torch==")]
    for packages in (torch_pin, ["--editable", f"{ROOT}[dev]"]):
        if packages:
            subprocess.run([*pip, *packages], check=True)
    return 0


def installed_torch() -> str | None:
    """Return the version of the torch that this Python can import, if it is new enough."""
    probe = "import importlib.metadata as m; print(m.version('torch'))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False).stdout.strip()
    numbers = re.match(r"(\d+)\.(\d+)", found)
    return found if numbers and tuple(map(int, numbers.groups())) >= OLDEST_TORCH else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
