"""What comes behind the last mixing of positions, found and computed only where it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny
from shoestring.methods.catalog.mezo import MeZO
from shoestring.models.scoring import SCORERS, logits_at, logits_of
from shoestring.models.tail import Tail, tail_in_use, tail_of, tails_read
from shoestring.training.fit import train
from shoestring.tuning.base import TUNINGS
from shoestring.zeroth import MeZO as Optimizer
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines.base import ENGINES

pytestmark = pytest.mark.usefixtures("frozen_imports")
KINDS = [*((name, "masked") for name in tiny.MASKED), *((name, "causal") for name in tiny.CAUSAL), ("bart", "causal")]
MODULES = {
    "opt": "self_attn.out_proj final_layer_norm fc1 activation_fn fc2 decoder.final_layer_norm",
    "gpt2": "attn.c_proj ln_2 mlp ln_f",
    "llama": "self_attn.o_proj post_attention_layernorm mlp model.norm",
    "roberta": "attention.output intermediate output lm_head.dense lm_head.layer_norm",
    "bert": "attention.output intermediate output cls.predictions.transform",
    "albert": "predictions.dense predictions.activation predictions.LayerNorm",  # its layers are one, called again
}
POSITIONS = {
    "one": [[8], [4], [13]],
    "two": [[8, 0], [4, 2], [13, 7]],
    "one twice": [[3, 3], [4, 0], [9, 9]],
    "from the end": [[-1, 3], [-14, -2], [0, -1]],
    "the last": [[-1], [-1], [-1]],
}


def double(architecture: str, kind: str) -> Any:
    return tiny.build_model(architecture, kind).double()


def inputs(rows: int = 3, length: int = 14) -> dict[str, Tensor]:
    ids = torch.randint(5, 400, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def watched(tail: Tail) -> list[torch.Size]:
    """Return shapes, but for the last axis, that layers inside a tail will give, before they are spread."""
    seen: list[torch.Size] = []
    for module in tail.modules:
        for part in module.modules():
            if not list(part.children()) and list(part.parameters()):
                part.register_forward_hook(lambda *call: seen.append(call[2].shape[:-1]))
    return seen


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
@pytest.mark.parametrize("where", POSITIONS)
def test_logits_are_those_of_a_full_pass(architecture: str, kind: str, where: str) -> None:
    model, positions = double(architecture, kind), torch.tensor(POSITIONS[where])
    batch, rows = inputs(), torch.arange(3)[:, None]
    tail = tail_of(model)
    seen = watched(tail)
    with torch.no_grad():
        full = logits_of(model, batch)[rows, positions]
        seen.clear()
        with tail.narrowed(positions):
            found = logits_of(model, batch)[rows, positions]
        assert set(seen) == {positions.shape}
        with tail.marked(positions):
            marked = logits_of(model, batch)
    torch.testing.assert_close(found, full, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(marked[rows, positions], full, rtol=1e-12, atol=1e-12)
    assert bool(marked.isnan().any())


@pytest.mark.parametrize("architecture", MODULES)
def test_the_tail_begins_behind_the_last_attention(architecture: str) -> None:
    model = tiny.build_model(architecture, "masked" if architecture in tiny.MASKED else "causal")
    names = {module: name for name, module in model.named_modules()}
    found = [names[module] for module in tail_of(model).modules]
    wanted = MODULES[architecture].split()
    assert [name.endswith(end) for name, end in zip(found, wanted, strict=True)] == [True] * len(wanted)
    assert not any(".0." in name for name in found)


def test_with_a_tail_read_logits_at_computes_it_there() -> None:
    model = double("opt", "causal")
    positions, tail = torch.tensor([[8], [4], [13]]), tail_of(model)
    with torch.no_grad():
        full = logits_at(model, inputs(), positions)
    seen = watched(tail)
    with torch.no_grad(), tails_read(model, tail):
        assert tail_in_use(model) is tail
        torch.testing.assert_close(logits_at(model, inputs(), positions), full, rtol=1e-12, atol=1e-12)
    assert set(seen) == {torch.Size([3, 1])}
    assert tail_in_use(model).modules == ()


def test_contexts_nest_and_end_with_an_error() -> None:
    model = tiny.build_model("opt", "causal")
    outer, inner = tail_of(model), Tail()
    with tails_read(model, outer):
        with pytest.raises(ZeroDivisionError), tails_read(model, inner):
            raise ZeroDivisionError
        assert tail_in_use(model) is outer
    assert tail_in_use(model).modules == ()


def test_no_hook_remains() -> None:
    model = tiny.build_model("roberta", "masked")
    tail = tail_of(model)
    with pytest.raises(ZeroDivisionError), tail.narrowed(torch.tensor([[1]])):
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_where_most_positions_are_read_all_are_computed() -> None:
    model = double("llama", "causal")
    tail, positions = tail_of(model), torch.arange(8).expand(3, -1)
    seen = watched(tail)
    with torch.no_grad(), tails_read(model, tail):
        logits_at(model, inputs(), positions)
    assert set(seen) == {torch.Size([3, 14])}


def test_modules_with_hooks_of_others_are_left_out() -> None:
    model = tiny.build_model("llama", "causal")
    mlp = model.model.layers[-1].mlp
    mlp.down_proj.register_forward_hook(lambda *_: None)
    assert tail_of(model).modules == (model.model.norm,)


def test_what_a_hook_of_others_sees_is_whole() -> None:
    model, seen = double("llama", "causal"), []
    last = model.model.layers[-1]
    for module in (last, last.mlp.down_proj):
        module.register_forward_hook(lambda _, args, out: seen.append((args[0].clone(), out.clone())))
    with torch.no_grad():
        logits_at(model, inputs(), torch.tensor([[8], [4], [13]]))
        with tails_read(model, tail_of(model, 14)):
            seen[2:] = []
            logits_at(model, inputs(), torch.tensor([[8], [4], [13]]))
    for one, other in zip(seen[:2], seen[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_hook_on_every_module_there_is_leaves_nothing_out() -> None:
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert tail_of(tiny.build_model("llama", "causal")).modules == ()
    finally:
        handle.remove()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_scripted_modules_stay_as_they_are_and_leave_no_hooks() -> None:
    model = tiny.build_model("llama", "causal").eval()
    last = model.model.layers[-1]
    last.mlp = torch.jit.trace(last.mlp, torch.randn(2, 6, 32))
    tail = tail_of(model)
    assert last.mlp not in tail.modules
    assert model.model.norm in tail.modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_failure_at_the_beginning_leaves_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.build_model("llama", "causal")
    monkeypatch.setattr(model.model.norm, "register_forward_hook", lambda *_: 1 / 0)
    assert tail_of(model).modules == ()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_probe_has_the_length_that_is_asked_for_and_disturbs_no_random_numbers(
    global_random_states: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lengths = tiny.build_model("llama", "causal"), []

    def drawing(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        lengths.append(args[0].shape)
        torch.rand(3)

    model.model.embed_tokens.register_forward_pre_hook(drawing)
    assert tail_of(model, 23).modules
    assert set(lengths) == {torch.Size([2, 23])}


def test_a_model_whose_config_names_no_vocabulary_has_a_tail() -> None:
    model = tiny.build_model("llama", "causal")
    del model.config.vocab_size
    assert len(tail_of(model).modules) == 4


def test_where_a_view_of_what_is_behind_is_taken_it_has_memory_of_its_own() -> None:
    subject, positions = tiny.prompted("gpt2", "causal", dtype=torch.float64), torch.tensor([[8], [4], [13]])
    model: Any = TUNINGS.get("adapter")().apply(subject.model, seed=1)
    tail = tail_of(model)
    assert tail.dense
    assert len(tail.modules) > 2
    with torch.no_grad():
        full = logits_at(model, inputs(), positions)
        with tails_read(model, tail):
            torch.testing.assert_close(logits_at(model, inputs(), positions), full, rtol=1e-12, atol=1e-12)
    assert not tail_of(double("gpt2", "causal")).dense


def test_a_model_that_computes_short_inputs_otherwise_is_probed_with_long_ones() -> None:
    from transformers import BigBirdConfig, BigBirdForMaskedLM

    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    other: Any = {"vocab_size": 400, "max_position_embeddings": 256, "block_size": 16, "num_random_blocks": 1}
    model: Any = BigBirdForMaskedLM(BigBirdConfig(**other, **sizes)).eval()
    assert tail_of(model, 256).modules
    assert model.bert.attention_type == "block_sparse"


def test_a_model_in_training_mode_or_without_a_head_has_no_tail() -> None:
    assert tail_of(tiny.build_model("opt", "causal").train()).modules == ()
    assert tail_of(tiny.build_model("roberta", "head")).modules == ()


def test_a_model_that_cannot_read_the_probe_has_no_tail(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.build_model("opt", "causal")
    model.model.decoder.embed_positions.register_forward_pre_hook(lambda *_: 1 / 0)
    with caplog.at_level(logging.INFO, "shoestring"):
        assert tail_of(model).modules == ()
    assert "all positions of OPTForCausalLM are computed to the end: ZeroDivisionError" in caplog.text


class Secret(nn.Module):
    """Mixes positions a little where no torch function mode sees it, as an extension in C++ may."""

    def __init__(self, inner: nn.Module, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        with torch._C.DisableTorchFunction():
            return out + self.share * out.cumsum(-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [1.0, 1e-6])
def test_mixing_that_nothing_saw_is_found_by_what_is_not_read(
    dtype: torch.dtype, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.build_model("llama", "causal").to(dtype)
    last = model.model.layers[-1]
    last.mlp = Secret(last.mlp, share)
    with caplog.at_level(logging.INFO, "shoestring"):
        assert tail_of(model).modules == ()
    assert "all positions of LlamaForCausalLM are computed to the end: logits change" in caplog.text


class Seen(nn.Module):
    """Does something behind a module."""

    def __init__(self, inner: nn.Module, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.what = inner, what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self.inner(x))


def pairs(x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    return x + (flat.reshape(-1, 1, x.shape[-1]) * flat.reshape(1, -1, x.shape[-1])).amax((0, 1))


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over positions": lambda x: x + x.mean(1, keepdim=True),
    "mean over all": lambda x: x + x.mean(),
    "mean, by name": lambda x: x + x.mean(dim=-2, keepdim=True),
    "cumsum": lambda x: x.cumsum(1),
    "roll": lambda x: x.roll(1, 1),
    "transposed": lambda x: functional.layer_norm(x.mT, (x.shape[1],)).mT,
    "another place": lambda x: x + x[:, :1],
    "backwards": lambda x: x.flip(1),
    "a gate of another place": lambda x: x * x.sigmoid().index_select(1, torch.arange(x.shape[1] - 1, -1, -1)),
    "pairs": pairs,
    "folded": lambda x: x.reshape(len(x), -1, 2 * x.shape[-1]).softmax(-1).reshape(x.shape),
    "a number of what has lost its axes": lambda x: x - x.sum(-1).sum(-1).sum(-1),
    "in place": lambda x: x.add_(x.sum(1, keepdim=True)),
    "split by positions": lambda x: torch.cat(x.split(3, 1)[::-1], 1),
    "norm over positions": lambda x: functional.layer_norm(x, x.shape[1:]),
    "attended": lambda x: functional.scaled_dot_product_attention(x, x, x),
}
BY_POSITION: dict[str, Callable[[Tensor], Tensor]] = {
    "residual": lambda x: x + 0.5 * x,
    "norm": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "gated": lambda x: functional.silu(x.chunk(2, dim=-1)[0]) * x.chunk(2, dim=-1)[1],
    "flat": lambda x: functional.gelu(x.reshape(-1, x.shape[-1])).view(x.shape),
    "everything": lambda x: x[:, slice(0, None), :],
    "other numbers": lambda x: x.float().to(x.dtype).clamp(-1, 1),
}


@pytest.mark.parametrize("name", [*MIXING, *BY_POSITION])
def test_functions_that_mix_positions_end_what_stands_before_them(name: str) -> None:
    model = double("llama", "causal")
    last = model.model.layers[-1]
    gated = name == "gated"
    inner = nn.Sequential(last.mlp, nn.Linear(32, 64, dtype=torch.float64)) if gated else last.mlp
    last.mlp = Seen(inner, {**MIXING, **BY_POSITION}[name])
    tail, positions = tail_of(model), torch.tensor([[8], [4], [13]])
    assert (last.mlp in tail.modules) == (name in BY_POSITION)
    assert last.self_attn.o_proj in tail.modules or name in MIXING
    assert inner not in tail.modules
    assert model.model.norm in tail.modules
    with torch.no_grad():
        full = logits_at(model, inputs(), positions)
        with tails_read(model, tail):
            torch.testing.assert_close(logits_at(model, inputs(), positions), full, rtol=1e-12, atol=1e-12)


def steps(architecture: str, kind: str, tuning: str, engine: str, *, narrow: bool) -> dict[str, Tensor]:
    """Return the weights after a few steps on a ragged batch."""
    subject = tiny.prompted(architecture, kind, dtype=torch.float64)
    model: Any = TUNINGS.get(tuning)().apply(subject.model, seed=1)
    batch = subject.collate(tiny.encoded(subject, 6))
    optimizer = Optimizer([(name, p) for name, p in model.named_parameters() if p.requires_grad], lr=1e-2, eps=1e-3,
                          engine=engine, directions="low-rank" if engine == "virtual" else "gaussian")  # fmt: skip

    def losses(part: dict[str, Tensor]) -> Tensor:
        scores = SCORERS.get(kind).scores(model, part, relative=True)
        return functional.cross_entropy(scores, part["labels"], reduction="none")

    tail = tail_of(model) if narrow else Tail()
    assert bool(tail.modules) == narrow
    for _ in range(4):
        with tails_read(model, tail):
            optimizer.step(PerExample(losses, [batch]))
    optimizer.finalize()
    assert optimizer.engine.instead is None
    assert engine != "paired" or optimizer.engine.repeats
    return {name: param.detach().clone() for name, param in model.named_parameters()}


@pytest.mark.parametrize(("architecture", "kind"), [("opt", "causal"), ("gpt2", "causal"), ("roberta", "masked")])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("engine", ENGINES.names())
def test_every_engine_makes_the_same_steps(architecture: str, kind: str, tuning: str, engine: str) -> None:
    found, wanted = (steps(architecture, kind, tuning, engine, narrow=narrow) for narrow in (True, False))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("answers", ["one token", "longer"])
def test_a_training_reads_tails_in_its_steps_and_nowhere_else(
    answers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("terrible", "great") if answers == "one token" else ("terrible story", "great")
    lengths: list[int] = []
    real = Tail.narrowed
    monkeypatch.setattr(Tail, "narrowed", lambda tail, *at: (lengths.append(len(tail.modules)), real(tail, *at))[1])
    found = []
    for find in (tail_of, lambda *_: Tail()):
        monkeypatch.setattr("shoestring.training.trainer.tail_of", find)
        subject = tiny.prompted("llama", "causal", task=tiny.task_of(words), dtype=torch.float64)
        settings = MeZO(steps=3, eval_every=3, batch_size=4, lr=1e-2, select="last")
        lengths.clear()
        train(tiny.job(subject, tmp_path / str(len(found)), settings), log=lambda *_: None)
        found.append(tiny.weights(subject.model))
        assert (4 in lengths) == (find is tail_of)  # modules of Llama's tail
        assert 0 in lengths  # predictions on dev
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-9, atol=1e-11)
