from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import shoestring

CODE = """
import torch
from shoestring.zeroth.noise import noise_for
torch.set_num_threads(1)
noise_for(torch.zeros(1)).add(torch.zeros(1 << 20), Source(0, "gaussian"), [(0, 1.0)])
print(torch.get_num_threads())
"""


def test_starting_numbas_threads_leaves_torch_those_it_had() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(shoestring.__file__).parent.parent), "NUMBA_NUM_THREADS": "2"}
    code = "from shoestring.zeroth.noise.base import Source" + CODE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "1\n"
