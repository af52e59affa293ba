from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ModelError
from shoestring.models.loading import fingerprint, is_still, load_model, load_tokenizer
from shoestring.models.placing import pick_device
from shoestring.models.settings import CausalModel, HeadModel, MaskedModel

pytestmark = pytest.mark.usefixtures("frozen_imports")


def test_a_model_is_loaded_in_eval_mode_in_the_precision_asked_for(tiny_masked_folder: Path) -> None:
    loaded = load_model(MaskedModel(name=str(tiny_masked_folder), dtype="bfloat16"), labels=2, seed=0)
    assert not loaded.model.training
    assert {param.dtype for param in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.tokenizer.mask_token == "<mask>"
    assert loaded.device.type == "cpu"


def test_weights_are_those_of_the_folder(tiny_masked_folder: Path) -> None:
    loaded = load_model(MaskedModel(name=str(tiny_masked_folder)), labels=2, seed=0)
    original = dict(tiny.build_model("roberta", "masked").named_parameters())
    for name, param in loaded.model.named_parameters():
        assert torch.equal(param, original[name]), name


@pytest.mark.parametrize(("fixture", "limit"), [("tiny_masked_folder", 64), ("tiny_causal_folder", 66)])
def test_a_model_knows_how_much_it_can_read(fixture: str, limit: int, request: pytest.FixtureRequest) -> None:
    kind = MaskedModel if fixture == "tiny_masked_folder" else CausalModel
    assert load_model(kind(name=str(request.getfixturevalue(fixture))), labels=2, seed=0).max_tokens == limit


def test_a_tokenizer_without_padding_leaves_the_models_own(tiny_causal_folder: Path, tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer()
    tokenizer.pad_token = None
    tiny.save(tiny.build_model("llama", "causal", pad_token_id=None), tokenizer, tmp_path)
    assert load_model(CausalModel(name=str(tmp_path)), labels=2, seed=0).model.config.pad_token_id is None
    loaded = load_model(CausalModel(name=str(tiny_causal_folder)), labels=2, seed=0)
    assert loaded.model.config.pad_token_id == 1


def test_a_new_head_is_drawn_from_the_seed(tiny_masked_folder: Path, global_random_states: None) -> None:
    def head(seed: int) -> torch.Tensor:
        loaded = load_model(HeadModel(name=str(tiny_masked_folder)), labels=3, seed=seed)
        model: Any = loaded.model
        weight = model.classifier.out_proj.weight
        assert weight.shape == (3, 32)
        return weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_a_checkpoint_without_its_language_model_head_is_refused(tmp_path: Path) -> None:
    tiny.save(tiny.build_model("roberta", "head"), tiny.bpe_tokenizer(), tmp_path)
    with pytest.raises(ModelError, match=r"the checkpoint lacks weights of RobertaForMaskedLM: lm_head.*kind=\"head\""):
        load_model(MaskedModel(name=str(tmp_path)), labels=2, seed=0)
    load_model(HeadModel(name=str(tmp_path)), labels=2, seed=0)


def test_a_family_the_model_does_not_belong_to_is_refused(tiny_causal_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded as a masked model: .*is model\.kind='causal' meant"):
        load_model(MaskedModel(name=str(tiny_causal_folder)), labels=2, seed=0)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(ModelError, match=r"recipe\.toml' is a file, where a folder or a name of the hub is meant"):
        load_model(MaskedModel(name=str(tmp_path / "recipe.toml")), labels=2, seed=0)


def test_a_folder_that_is_not_there_is_named_with_the_nearest(tiny_masked_folder: Path) -> None:
    wrong = str(tiny_masked_folder.parent / "robberta")
    with pytest.raises(ModelError, match="there is no such folder; did you mean 'roberta'"):
        load_model(MaskedModel(name=wrong), labels=2, seed=0)


def test_a_folder_that_looks_like_a_hub_id_is_named_without_asking_the_hub(
    tiny_masked_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_masked_folder.parent.parent)
    wrong = f"{tiny_masked_folder.parent.name}/robberta"
    with pytest.raises(ModelError, match=r"there is no such folder; did you mean 'roberta'.*add model\.revision=main"):
        load_model(MaskedModel(name=wrong), labels=2, seed=0)
    with pytest.raises(
        ModelError, match=r"the tokenizer cannot be loaded: .*[^.]; nor is there a folder of this name here"
    ):
        load_model(MaskedModel(name=wrong, revision="main"), labels=2, seed=0)


def test_a_model_that_sees_what_follows_is_not_causal(tiny_masked_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'RobertaForCausalLM is not causal.*use model.kind="masked"'):
        load_model(CausalModel(name=str(tiny_masked_folder)), labels=2, seed=0)
    tiny.save(tiny.build_model("roberta", "masked", is_decoder=True), tiny.bpe_tokenizer(), tmp_path)
    load_model(CausalModel(name=str(tmp_path)), labels=2, seed=0)


SIGHTED: dict[str, dict[str, Any]] = {
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "bert-generation": tiny.SIZES,
}


@pytest.mark.parametrize(
    ("name", "dtype", "blind"),
    [
        ("xlnet", "float32", {"attn_type": "uni"}),
        ("bert-generation", "float32", {"is_decoder": True}),
        ("bert-generation", "bfloat16", {"is_decoder": True}),
    ],
)
def test_a_model_whose_logits_change_with_what_follows_is_not_causal(
    name: str, dtype: Any, blind: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.ARCHITECTURES, name, SIGHTED[name] | {"initializer_range": 0.2})
    settings = CausalModel(name=str(tmp_path), dtype=dtype)
    tiny.save(tiny.build_model(name, "causal"), tiny.bpe_tokenizer(), tmp_path)
    with pytest.raises(ModelError, match=r"is not causal, its logits at a token change with the tokens behind it; cho"):
        load_model(settings, labels=2, seed=0)
    tiny.save(tiny.build_model(name, "causal", **blind), tiny.bpe_tokenizer(), tmp_path)
    load_model(settings, labels=2, seed=0)


@pytest.mark.parametrize("architecture", [*tiny.CAUSAL, "gemma", "bart"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_causal_models_are_loaded_without_touching_random_states(
    architecture: str, dtype: Any, tmp_path: Path, global_random_states: None
) -> None:
    tiny.save(tiny.build_model(architecture, "causal"), tiny.bpe_tokenizer(), tmp_path)
    load_model(CausalModel(name=str(tmp_path), dtype=dtype), labels=2, seed=0)


def test_a_revision_of_a_folder_is_refused(tiny_masked_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"model\.revision='main' is for the hub, and model\.name='.*' is a folder here"
    ):
        load_model(MaskedModel(name=str(tiny_masked_folder), revision="main"), labels=2, seed=0)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"the folder has no config\.json; it holds notes\.txt"):
        load_model(MaskedModel(name=str(tmp_path)), labels=2, seed=0)


def test_a_name_the_hub_cannot_give_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.name='no-such-model-xyz': the tokenizer cannot be loaded"):
        load_model(MaskedModel(name="no-such-model-xyz"), labels=2, seed=0)


def test_damaged_weights_are_refused(tiny_masked_folder: Path, tmp_path: Path) -> None:
    tiny.save(tiny.build_model("roberta", "masked"), tiny.bpe_tokenizer(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor in sight")
    with pytest.raises(ModelError, match="cannot be loaded as a masked model"):
        load_model(MaskedModel(name=str(tmp_path)), labels=2, seed=0)


def test_a_damaged_tokenizer_is_refused(tiny_masked_folder: Path, tmp_path: Path) -> None:
    tiny.save(tiny.build_model("roberta", "masked"), tiny.bpe_tokenizer(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_model(MaskedModel(name=str(tmp_path)), labels=2, seed=0)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.device: there is no device 'gpu'; did you mean 'cuda'"):
        pick_device("gpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.device='cuda:1': this machine has no CUDA device"):
        pick_device("cuda:1")


def test_any_but_the_first_gpu_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError, match=r"choose another by CUDA_VISIBLE_DEVICES=2 with model\.device=cuda"):
        pick_device("cuda:2")
    assert pick_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize("size", [10, 1 << 20, (1 << 20) + 500, (1 << 21) + 500])
@pytest.mark.parametrize("place", [0, -1])
def test_a_change_in_a_model_file_changes_its_fingerprint(size: int, place: int, tmp_path: Path) -> None:
    content = bytearray(size)
    (tmp_path / "model.safetensors").write_bytes(content)
    settings = MaskedModel(name=str(tmp_path))
    before = fingerprint(settings)
    assert fingerprint(settings) == before
    content[place] = 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert fingerprint(settings) != before


def test_only_files_that_change_what_a_model_does_are_in_its_fingerprint(tmp_path: Path) -> None:
    settings = MaskedModel(name=str(tmp_path))
    seen = {fingerprint(settings)}
    counted = ("pytorch_model.bin", "config.json", "tokenizer.json", "spiece.model", "merges.txt")
    for count, name in enumerate(counted, start=2):
        (tmp_path / name).write_text("{}")
        seen.add(fingerprint(settings))
        assert len(seen) == count
    for name in ("README.md", ".gitattributes", "notes.rst"):
        (tmp_path / name).write_text("read me")
    (tmp_path / "more.json").mkdir()
    assert fingerprint(settings) in seen


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache on a machine that has loaded `org/tiny` at one commit."""
    folder = tmp_path / "models--org--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    tiny.save(tiny.build_model("roberta", "masked"), tiny.bpe_tokenizer(), folder / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return folder


def test_a_hub_id_is_told_by_the_commit_of_its_copy_here(hub: Path) -> None:
    settings = MaskedModel(name="org/tiny", revision="main")
    loaded = load_model(settings, labels=2, seed=0)
    assert loaded.fingerprint == fingerprint(settings) == f"org/tiny@{'a' * 40}"
    assert is_still(settings, loaded.fingerprint)
    (hub / "refs" / "main").write_text("b" * 40)
    (hub / "snapshots" / ("a" * 40)).rename(hub / "snapshots" / ("b" * 40))
    assert not is_still(settings, loaded.fingerprint)
    shutil.rmtree(hub)
    assert is_still(settings, loaded.fingerprint)
    assert not is_still(settings, "0123456789abcdef")  # that of a folder which is gone
    assert not is_still(settings, None)


def test_a_tokenizer_that_is_loaded_already_is_not_loaded_again(
    tiny_masked_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MaskedModel(name=str(tiny_masked_folder))
    tokenizer = load_tokenizer(settings)
    monkeypatch.setattr("shoestring.models.loading.load_tokenizer", None)
    assert load_model(settings, labels=2, seed=0, tokenizer=tokenizer).tokenizer is tokenizer


def test_a_hub_id_is_told_by_its_revision() -> None:
    assert fingerprint(MaskedModel(name="roberta-large")) == "roberta-large@main"
    assert fingerprint(MaskedModel(name="roberta-large", revision="abc")) == "roberta-large@abc"


def test_a_padding_id_below_zero_is_none(tmp_path: Path) -> None:
    tiny.save(tiny.build_model("llama", "causal"), tiny.bpe_tokenizer(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"pad_token_id": 1', '"pad_token_id": -1'))
    assert load_model(CausalModel(name=str(tmp_path)), labels=2, seed=0).model.config.pad_token_id == 1
