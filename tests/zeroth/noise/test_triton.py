"""The Triton kernel gives the bits of the plain backend: in Triton's interpreter, as compiled code, and on a GPU.

Triton comes with torch's CUDA builds. Elsewhere these tests need `pip install triton`; no GPU.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import shoestring
from shoestring.zeroth.noise import noise_for, using
from shoestring.zeroth.noise.base import Distribution, Noise, Source
from shoestring.zeroth.noise.plain import PlainNoise

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
DISTRIBUTIONS: tuple[Distribution, ...] = ("gaussian", "rademacher")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (torch for the CPU comes without it)"
)


def weights(size: int, dtype: torch.dtype) -> torch.Tensor:
    made = torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    made[: size // 3] *= 1e-6
    return made.to(dtype)


def compare(noise: Noise, device: str, sizes: tuple[int, ...], starts: tuple[int, ...] = (0, 77, 2**34 - 100)) -> None:
    """Check that a backend gives the bits of the plain one on the CPU."""
    plain = PlainNoise()
    cases = itertools.product(DISTRIBUTIONS, DTYPES, sizes, starts)
    for number, (distribution, dtype, size, start) in enumerate(cases):
        source = Source(number << 40 | 5, distribution)
        z = torch.empty(2, size)
        made = z[0].to(device)
        noise.fill(made, source, 2**40 + number, start)
        plain.fill(z[1], source, 2**40 + number, start)
        assert torch.equal(made.cpu(), z[1]), ("fill", distribution, size, start)
        right = weights(size, dtype)
        outs, table = torch.empty(3, size, dtype=dtype), [[0.5, 0.0], [-0.5, 1e-3], [0.0, 0.0]]
        moved, made = torch.empty_like(outs, device=device), right.to(device)
        plain.points(outs, right, source, [1, 2**50], table, start)
        noise.points(moved, made, source, [1, 2**50], table, start)
        assert torch.equal(moved.cpu(), outs), ("points", distribution, dtype, size, start)
        for terms, rounding in (([(3, 1e-3), (4, -0.2)], 2**33), ([], 1), ([(2**62, 0.1)], None)):
            plain.add(right, source, terms, start, 0.999, rounding)
            noise.add(made, source, terms, start, 0.999, rounding)
            assert torch.equal(made.cpu(), right), ("add", distribution, dtype, size, start, rounding)
    for distribution, dtype in itertools.product(DISTRIBUTIONS, DTYPES):
        weight, index = weights(5000, dtype).view(50, 100), torch.tensor([7, 0, 49, 7])
        outs = torch.empty(2, 4, 100, dtype=dtype)
        made = outs.to(device)
        plain.rows(outs, weight, index, Source(1, distribution), [6], [[0.1], [-0.1]])
        noise.rows(made, weight.to(device), index.to(device), Source(1, distribution), [6], [[0.1], [-0.1]])
        assert torch.equal(made.cpu(), outs), ("rows", distribution, dtype)


def run(code: str, tmp_path: Path, **environment: str) -> None:
    """Run code in a process of its own: Triton decides when it is imported whether it interprets."""
    path = os.pathsep.join([str(Path(shoestring.__file__).parent.parent), str(Path(__file__).parent), *sys.path])
    every = os.environ | {"PYTHONPATH": path, "TRITON_CACHE_DIR": str(tmp_path)} | environment
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=every, check=False)
    assert done.returncode == 0, done.stderr


@needs_triton
def test_the_interpreted_kernel_gives_the_bits_of_the_plain_backend(tmp_path: Path) -> None:
    code = """
import test_triton
from shoestring.zeroth.noise.triton_backend import TritonNoise
test_triton.compare(TritonNoise(), "cpu", sizes=(300,), starts=(2**34 - 100,))
"""
    run(code, tmp_path, TRITON_INTERPRET="1")


COMPILE = """
import re, triton
from triton.compiler import ASTSource
from triton.backends.compiler import GPUTarget
from shoestring.zeroth.noise import philox, triton_kernels
names = [parameter.name for parameter in triton_kernels.combine.params]
for stream, weight, rounded in ((philox.GAUSSIAN, "fp32", False), (philox.RADEMACHER, "bf16", True)):
    constants = dict(STREAM=stream, FRESH=False, ROUNDED=rounded, POINTS=2, TILE=512)
    pointers = dict(outs=weight, weight=weight, index="i64", seeds="i64", coefficients="fp32")
    kinds = {name: "i64" for name in names} | {name: "*" + kind for name, kind in pointers.items()}
    kinds |= {name: "constexpr" for name in constants}
    source = ASTSource(triton_kernels.combine, kinds, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    assert not re.search(r"\\bfma\\.", made) and "mul.rn.f32" in made and "add.rn.f32" in made
    assert stream != philox.GAUSSIAN or "sqrt.rn.f32" in made
"""


@needs_triton
def test_the_compiled_kernel_rounds_every_operation_on_its_own(tmp_path: Path) -> None:
    run(COMPILE, tmp_path)


@pytest.mark.gpu
def test_on_a_gpu_the_kernel_gives_the_bits_of_the_plain_backend() -> None:
    compare(noise_for(torch.zeros(1, device="cuda")), "cuda", (300, 5000))


@pytest.mark.gpu
def test_on_a_gpu_the_plain_backend_gives_the_bits_of_the_cpu() -> None:
    with using("torch") as noise:
        compare(noise, "cuda", (300, 5000))


@pytest.mark.gpu
def test_tensors_on_a_gpu_get_triton() -> None:
    assert noise_for(torch.zeros(1, device="cuda")).name == "triton"
