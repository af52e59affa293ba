from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ModelError
from shoestring.seeds import isolated
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.catalog.bitfit import BitFit
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.lora import LoRA

pytestmark = pytest.mark.usefixtures("frozen_imports")
MODELS = [("roberta", "masked"), ("bert", "masked"), ("opt", "causal"), ("llama", "causal"), ("roberta", "head")]
WITHOUT_BIASES = {"llama"}


def contract() -> Iterator[Any]:
    for name in TUNINGS.names():
        for architecture, kind in MODELS:
            if not (name == "bitfit" and architecture in WITHOUT_BIASES):
                yield pytest.param(name, architecture, kind, id=f"{name}-{architecture}-{kind}")


@pytest.mark.parametrize(("name", "architecture", "kind"), list(contract()))
def test_a_tuning_leaves_outputs_as_they_are_and_then_moves_only_what_it_trains(
    name: str, architecture: str, kind: str
) -> None:
    subject = tiny.prompted(architecture, kind)
    prompts = tiny.encoded(subject, 6)
    before = subject.predict(prompts, 6)
    model = TUNINGS.get(name)().apply(subject.model, seed=3)
    assert not model.training
    torch.testing.assert_close(subject.predict(prompts, 6), before, rtol=0, atol=0)
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert trained
    start = tiny.weights(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # LoRA's A has no gradient until B has moved
        optimizer.zero_grad()
        OBJECTIVES.get("cross-entropy").loss(subject, subject.collate(prompts)).backward()
        optimizer.step()
    moved = {name for name, value in tiny.weights(model).items() if not torch.equal(value, start[name])}
    assert moved <= trained
    assert moved
    assert not torch.equal(subject.predict(prompts, 6), before)


@pytest.mark.parametrize("name", TUNINGS.names())
def test_a_tuning_depends_on_its_seed_and_not_on_the_global_generators(name: str, global_random_states: None) -> None:
    def weights(global_seed: int) -> dict[str, torch.Tensor]:
        with isolated(global_seed):
            return tiny.weights(TUNINGS.get(name)().apply(tiny.build_model("roberta", "masked"), seed=5))

    assert tiny.equal(weights(1), weights(2))
    TUNINGS.get(name)().apply(tiny.build_model("roberta", "masked"), seed=5)


def trained(model: torch.nn.Module) -> dict[str, int]:
    return {name: param.numel() for name, param in model.named_parameters() if param.requires_grad}


def test_full_tuning_trains_every_weight() -> None:
    model = tiny.build_model("roberta", "masked")
    next(model.parameters()).requires_grad_(False)
    assert len(trained(Full().apply(model, seed=0))) == len(list(model.named_parameters()))


def test_bitfit_trains_the_biases_of_every_layer() -> None:
    names = trained(BitFit().apply(tiny.build_model("roberta", "masked"), seed=0))
    assert all(name.endswith("bias") for name in names)
    # Per layer: query, key, value, attention output, intermediate, output, two norms; the embeddings' norm; the head's
    # dense, norm and decoder.
    assert len(names) == 2 * 8 + 1 + 3


def test_bitfit_refuses_a_model_without_biases() -> None:
    with pytest.raises(
        ModelError, match=r'tuning.kind="bitfit": LlamaForCausalLM has no biases; try tuning.kind="lora"'
    ):
        BitFit().apply(tiny.build_model("llama", "causal"), seed=0)


@pytest.mark.parametrize("rank", [1, 4])
def test_lora_trains_two_thin_matrices_for_each_query_and_value(rank: int) -> None:
    names = trained(LoRA(r=rank).apply(tiny.build_model("roberta", "masked"), seed=0))
    assert sum(names.values()) == 2 * 2 * rank * (32 + 32)  # layers, projections, A and B
    grouped = trained(LoRA(r=rank).apply(tiny.build_model("llama", "causal"), seed=0))
    assert sum(grouped.values()) == 2 * rank * ((32 + 32) + (32 + 16))  # values have two of four heads


def test_lora_adapts_the_modules_it_is_told_to() -> None:
    names = trained(LoRA(r=2, targets=("key", "dense")).apply(tiny.build_model("roberta", "masked"), seed=0))
    assert names
    assert all(".key." in name or ".dense." in name for name in names)


def test_lora_refuses_targets_that_are_not_there() -> None:
    with pytest.raises(ModelError, match=r"tuning\.targets: .*nonsense"):
        LoRA(targets=("nonsense",)).apply(tiny.build_model("roberta", "masked"), seed=0)


def test_lora_asks_for_targets_where_peft_has_no_default() -> None:
    with pytest.raises(ModelError, match=r"tuning\.targets: peft has no default for distilbert; name the modules"):
        LoRA().apply(tiny.build_model("distilbert", "masked"), seed=0)


def test_the_draws_of_lora_follow_its_seed() -> None:
    one, other = (LoRA().apply(tiny.build_model("roberta", "masked"), seed=seed) for seed in (1, 2))
    assert not tiny.equal(tiny.weights(one), tiny.weights(other))


HEADS = {
    "roberta": {"classifier.dense", "classifier.out_proj"},
    "bert": {"classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "electra": {"classifier.dense", "classifier.out_proj"},
    "llama": {"score"},
}


@pytest.mark.parametrize("architecture", HEADS)
@pytest.mark.parametrize("tuning", [LoRA, BitFit])
def test_a_head_has_no_pretrained_weights_and_is_trained_whole(architecture: str, tuning: Any) -> None:
    if tuning is BitFit and architecture == "llama":
        pytest.skip("Llama has no biases")
    settings = tuning(targets=("q_lin",)) if (tuning, architecture) == (LoRA, "distilbert") else tuning()
    model = settings.apply(tiny.build_model(architecture, "head"), seed=0)
    modules = {name.rpartition(".")[0] for name in trained(model) if "lora_" not in name and name.endswith(".weight")}
    assert modules == HEADS[architecture]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
@pytest.mark.parametrize(("name", "architecture", "kind"), list(contract()))
def test_what_a_tuning_saves_is_loaded_by_transformers_or_peft(
    name: str, architecture: str, kind: str, tmp_path: Path
) -> None:
    import transformers
    from peft import PeftModel

    base = tiny.save(tiny.build_model(architecture, kind), tiny.bpe_tokenizer(), tmp_path / "base")
    loader = type(tiny.build_model(architecture, kind))
    settings = TUNINGS.get(name)()
    model = settings.apply(loader.from_pretrained(base), seed=3)
    for number, param in enumerate(param for param in model.parameters() if param.requires_grad):
        torch.nn.init.normal_(param, std=0.1, generator=torch.Generator().manual_seed(number))
    settings.save(model, tmp_path / "tuned")
    adapter = (tmp_path / "tuned" / "adapter_config.json").is_file()
    if adapter:
        again = PeftModel.from_pretrained(loader.from_pretrained(base), str(tmp_path / "tuned"))
    else:
        again = loader.from_pretrained(tmp_path / "tuned")
    assert adapter == (name == "lora")
    assert isinstance(again, (transformers.PreTrainedModel, PeftModel))
    ids = torch.tensor([[0, 8, 9, 10, 2]])
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(input_ids=ids).logits, model(input_ids=ids).logits)


def test_lora_is_what_its_equation_says() -> None:
    model = LoRA(r=2, alpha=6.0).apply(tiny.build_model("roberta", "masked").double(), seed=0)
    layer = model.roberta.encoder.layer[0].attention.self.query
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    torch.nn.init.normal_(up, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    base = layer.base_layer
    wanted = x @ (base.weight + 3.0 * up.double() @ down.double()).T + base.bias
    torch.testing.assert_close(layer(x), wanted, rtol=1e-6, atol=1e-6)
