"""Products by oneDNN: torch's numbers up to the order of sums, where they are faster, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny
import tiny_forwards
from shoestring import products
from shoestring.models.generation import Generator
from shoestring.models.settings import GenerationSettings
from shoestring.products import QuickProducts, addmm, linear, product_for, quick_products
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.runs.environment import environment
from shoestring.tasks.spec import Generation
from shoestring.zeroth import LOZO, MeZO

pytestmark = pytest.mark.usefixtures("frozen_imports")
ONEDNN = products._onednn()
needs_onednn = pytest.mark.skipif(ONEDNN is None, reason="needs a torch that comes with oneDNN")


class Counted:
    """oneDNN's product, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert ONEDNN is not None
        self.calls += 1
        return ONEDNN(x, weight, bias)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """As on a processor for which oneDNN is faster, whatever the size."""
    counted = Counted()
    monkeypatch.setattr(products, "onednn", lambda: counted)
    for name in ("_LEAST", "_SMALLEST", "_NARROWEST"):
        monkeypatch.setattr(products, name, 0)
    return counted


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


SHAPES: dict[str, Callable[[], tuple[Tensor, Tensor, Tensor | None]]] = {
    "rows": lambda: (drawn(7, 12), drawn(5, 12), drawn(5)),
    "no bias": lambda: (drawn(7, 12), drawn(5, 12), None),
    "batch": lambda: (drawn(2, 3, 12), drawn(5, 12), drawn(5)),
    "one row": lambda: (drawn(12), drawn(5, 12), drawn(5)),
    "no rows": lambda: (drawn(0, 12), drawn(5, 12), drawn(5)),
    "turned": lambda: (drawn(7, 12), drawn(12, 5).t(), drawn(5)),
    "turned rows": lambda: (drawn(12, 3, 2).permute(2, 1, 0), drawn(5, 12), drawn(5)),
    "slices": lambda: (drawn(7, 20)[:, 3:15], drawn(5, 40)[:, ::2][:, 3:15], drawn(10)[::2]),
    "overlapping": lambda: (drawn(99).as_strided((7, 12), (3, 1)), drawn(99).as_strided((5, 12), (2, 1)), drawn(5)),
    "repeated": lambda: (drawn(1, 12).expand(7, 12), drawn(5, 1).expand(5, 12), drawn(1).expand(5)),
}


@needs_onednn
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_products_are_torchs(name: str, quick: Counted) -> None:
    x, weight, bias = SHAPES[name]()
    wide = [None if part is None else part.double() for part in (x, weight, bias)]
    wanted = functional.linear(*wide)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(linear(x, weight, bias).double(), wanted, rtol=1e-5, atol=1e-5)
    with QuickProducts():
        torch.testing.assert_close(
            functional.linear(x, weight=weight, bias=bias).double(), wanted, rtol=1e-5, atol=1e-5
        )
        if bias is not None and x.ndim == 2:
            calls = quick.calls
            found = torch.addmm(bias, x, weight.t())
            torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
            assert quick.calls == calls + 1
    assert quick.calls >= 2


@needs_onednn
@torch.no_grad()
def test_a_sum_with_factors_or_with_rows_of_its_own_is_left_to_torch(quick: Counted) -> None:
    x, weight = drawn(7, 12), drawn(12, 5)
    assert torch.equal(addmm(drawn(5), x, weight, beta=2), torch.addmm(drawn(5), x, weight, beta=2))
    assert torch.equal(addmm(drawn(7, 5), x, weight), torch.addmm(drawn(7, 5), x, weight))
    assert torch.equal(addmm(drawn(5), mat1=x, mat2=weight), torch.addmm(drawn(5), x, weight))
    assert quick.calls == 0


class Own(nn.Parameter):
    """A parameter of a class of its own, as those of quantized weights are."""


@needs_onednn
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (drawn(7, 12, dtype=torch.float64), drawn(5, 12, dtype=torch.float64)),
        (drawn(7, 12, dtype=torch.bfloat16), drawn(5, 12, dtype=torch.bfloat16)),
        (drawn(7, 12), drawn(5, 12, dtype=torch.float64)),
        (drawn(7, 12), Own(drawn(5, 12))),
        (drawn(7, 12), drawn(5, 12).to_sparse()),
        (drawn(7, 12).to("meta"), drawn(5, 12).to("meta")),
        (drawn(7, 12), drawn(12)),
        (drawn(7, 12), drawn(5, 11)),
        ("x", drawn(5, 12)),
    ],
    ids=["double", "half", "two dtypes", "own class", "sparse", "meta", "vector", "another width", "no tensor"],
)
@torch.no_grad()
def test_what_is_not_plain_float32_is_left_to_torch(x: Any, weight: Any, quick: Counted) -> None:
    assert product_for(x, weight) is None
    assert product_for(drawn(7, 12), drawn(5, 12)) is quick


@pytest.mark.parametrize(
    "bias",
    [drawn(1), drawn(1, 5), drawn(7, 5), drawn(5, dtype=torch.float64), Own(drawn(5)), torch.tensor(2.0)],
    ids=str,
)
@torch.no_grad()
def test_a_bias_of_another_shape_or_dtype_is_left_to_torch(bias: Tensor, quick: Counted) -> None:
    x, weight = drawn(7, 12), drawn(5, 12)
    assert product_for(x, weight, bias) is None
    assert product_for(x, weight, drawn(5)) is quick
    if bias.dtype == torch.float32:
        assert torch.equal(linear(x, weight, bias), functional.linear(x, weight, bias))
        assert torch.equal(addmm(bias, x, weight.t()), torch.addmm(bias, x, weight.t()))
    assert quick.calls == 0


@torch.no_grad()
@pytest.mark.parametrize("bias", [None, 4])
def test_what_does_not_fit_together_is_torchs_error(bias: int | None, quick: Counted) -> None:
    x, weight, bias_ = (drawn(7, 11), drawn(5, 12), None) if bias is None else (drawn(7, 12), drawn(5, 12), drawn(bias))
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|must match the existing size"):
        linear(x, weight, bias_)
    assert quick.calls == 0


@needs_onednn
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # The first dual number's, of torch.
def test_what_torch_differentiates_maps_or_casts_is_left_to_it(quick: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = drawn(7, 12), drawn(5, 12)
    assert product_for(x, weight) is None  # gradients are on
    with torch.no_grad():
        assert product_for(x, weight) is quick
        tangent = torch.func.jvp(lambda x: linear(x, weight), (x,), (x,))[1]
        torch.testing.assert_close(tangent, x @ weight.t())
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            assert torch.autograd.forward_ad.unpack_dual(linear(dual, weight)).tangent is not None
        assert torch.func.vmap(lambda x: linear(x, weight))(x).shape == (7, 5)
        with torch.autocast("cpu"):
            assert linear(x, weight).dtype == torch.bfloat16
        assert quick.calls == 0
        with monkeypatch.context() as off:
            off.setattr(torch.backends.mkldnn, "enabled", False)
            assert product_for(x, weight) is None
        with monkeypatch.context() as off:
            off.setattr(torch.compiler, "is_compiling", lambda: True)
            assert product_for(x, weight) is None


@torch.no_grad()
def test_small_and_narrow_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(products, "onednn", lambda: counted)
    assert product_for(drawn(32, 256), drawn(256, 256)) is counted
    assert product_for(drawn(31, 256), drawn(256, 256)) is None
    assert product_for(drawn(999, 256), drawn(255, 256)) is None
    assert product_for(drawn(999, 8192), drawn(31, 8192)) is None
    assert type(quick_products()) is QuickProducts
    assert type(quick_products([drawn(256, 256)])) is QuickProducts
    for weights in (
        [],
        [drawn(64, 64)],
        [drawn(1 << 16)],
        [drawn(2, 1 << 15)],
        [drawn(256, 256, dtype=torch.bfloat16)],
    ):
        assert type(quick_products(weights)) is not QuickProducts


PROCESSORS = {
    "amd": ("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", "AVX512", True),
    "amd that is older": ("vendor_id : AuthenticAMD\n", "AVX2", False),
    "intel": ("vendor_id\t: GenuineIntel\n", "AVX512", False),
    "unnamed": ("Features : fp asimd\n", "AVX512", False),
}


@needs_onednn
@pytest.mark.parametrize("name", PROCESSORS)
def test_onednn_is_taken_where_mkl_leaves_instructions_aside(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, capability, faster = PROCESSORS[name]
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(products, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert (products.onednn.__wrapped__() is not None) is faster
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert products.onednn.__wrapped__() is None


def test_the_record_says_which_library_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(products, "onednn", lambda: None)
    assert environment(cpu)["products"] == "torch"
    monkeypatch.setattr(products, "onednn", Counted)
    assert environment(cpu)["products"] == "oneDNN"
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert environment(cpu)["products"] == "torch"


def test_without_a_list_of_processors_the_platform_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_PROCESSOR", tmp_path / "none")
    monkeypatch.setattr(products.platform, "processor", lambda: "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD")
    assert products.maker() == "AuthenticAMD"
    monkeypatch.setattr(products.platform, "processor", lambda: "")
    assert products.maker() == ""


def test_a_torch_without_the_operator_multiplies_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert products._onednn() is None


def losses(forward: tiny_forwards.Forward, kind: Any, closure: str, **settings: Any) -> list[float]:
    before = {name: param.detach().clone() for name, param in forward.model.named_parameters()}
    params = [(name, param) for name, param in forward.model.named_parameters() if param.requires_grad]
    optimizer = kind(params, lr=1e-3, eps=1e-2, seed=1, **settings)
    found: list[float] = []
    for _ in range(3):
        optimizer.step(forward.closure(closure))
        found += optimizer.last_answers
    optimizer.finalize()
    for name, param in forward.model.named_parameters():
        param.data.copy_(before[name])
    return found


@needs_onednn
@pytest.mark.parametrize(
    "engine", ["replay", "fused", "paired", {"kind": "paired", "small": 0, "tile": 100}, "virtual"]
)
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["roberta", "opt", "gpt2", "llama", "t5"])
def test_steps_are_those_with_torchs_products(architecture: str, tuning: str, engine: Any, quick: Counted) -> None:
    forward = tiny_forwards.forward(architecture, tuning, dtype=torch.float32)
    kind = LOZO if engine == "virtual" else MeZO
    found = losses(forward, kind, "per example", engine=engine)
    assert quick.calls > 0
    quick.calls = 0
    with pytest.MonkeyPatch.context() as off:
        off.setattr(torch.backends.mkldnn, "enabled", False)
        wanted = losses(forward, kind, "per example", engine=engine)
    assert quick.calls == 0
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@needs_onednn
@pytest.mark.parametrize("architecture", ["roberta", "llama", "gpt2"])
def test_predictions_and_answers_are_those_with_torchs_products(architecture: str, quick: Counted) -> None:
    kind = "masked" if architecture == "roberta" else "causal"
    subject = tiny.prompted(architecture, kind, dtype=torch.float32)
    ids = [tuple(range(7, 12 + number)) for number in range(4)]
    prompts = [
        EncodedPrompt(f"test:{n}", row, (0,) * len(row), len(row) - 1, ((7,), (9,)), 0, 0) for n, row in enumerate(ids)
    ]
    generator = Generator(tiny.bpe_tokenizer(), Generation(max_new_tokens=5, stop=None), GenerationSettings(), 1, 0)
    writer = replace(subject, generator=generator)
    found = subject.predict(prompts, 2)
    assert quick.calls > 0
    texts = writer.generate(prompts, 2) if kind == "causal" else []
    quick.calls = 0
    with pytest.MonkeyPatch.context() as off:
        off.setattr(torch.backends.mkldnn, "enabled", False)
        torch.testing.assert_close(found, subject.predict(prompts, 2), rtol=1e-4, atol=1e-5)
        assert texts == (writer.generate(prompts, 2) if kind == "causal" else [])
    assert quick.calls == 0
