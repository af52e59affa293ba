from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.errors import ConfigError, ModelError
from shoestring.methods.base import METHODS
from shoestring.models.loading import load_tokenizer
from shoestring.models.settings import MODEL_KINDS
from shoestring.runs.config import RunConfig, identity_of, load_config
from shoestring.tuning.base import TUNINGS

BASE: dict[str, Any] = {
    "task": "SST-2",
    "data": {"source": "data"},
    "model": {"kind": "masked", "name": "roberta-large"},
    "method": {"kind": "mezo"},
}


def config(*overrides: str, **sections: Any) -> RunConfig:
    return load_config(None, overrides, table=BASE | sections)


# One other value of every setting that can change a number.
CHANGES = {
    "data.source": ("data.source=other",),
    "data.mode": ("data.mode=k-shot-10x",),
    "data.k": ("data.k=8",),
    "data.allow_fewer": ("data.allow_fewer=true",),
    "data.dev_share": ("data.mode=full", "data.dev_share=0.2"),
    "data.tests": ("data.tests=['test']",),
    "data.test_source": ("data.test_source=tests",),
    "data.max_test": ("data.max_test=100",),
    "data.num_train": ("data.mode=subset", "data.num_train=10", "data.num_dev=5"),
    "data.num_dev": ("data.mode=subset", "data.num_train=10", "data.num_dev=6"),
    "data.num_eval": ("data.mode=subset", "data.num_train=10", "data.num_dev=5", "data.num_eval=7"),
    "data.per_example": (
        *("data.mode=subset", "data.num_train=10", "data.per_example=true"),
        *("method.kind=in-context", "model.kind=causal", "prompt.demonstrations.kind=gpt3"),
    ),
    "data.seed": ("data.seed=5",),
    "data.text_columns": ("data.text_columns=['text']",),
    "data.label_column": ("data.label_column=mood",),
    "model.name": ("model.name=roberta-base",),
    "model.revision": ("model.revision=abc",),
    "model.dtype": ("model.dtype=bfloat16",),
    "model.device": ("model.device=cpu",),
    "model.quantization": ("model.quantization=8bit", "tuning.kind=lora"),
    "model.attention": ("model.attention=eager",),
    "model.kind": ("model.kind=causal",),
    "prompt.template": ("prompt.template=*cls**sent_0*_So*mask*.*sep+*",),
    "prompt.answer": ("prompt.answer= {word}!",),
    "prompt.label_words": ("prompt.label_words={1 = 'good'}",),
    "prompt.max_tokens": ("prompt.max_tokens=64",),
    "prompt.truncate": ("prompt.truncate=error",),
    "prompt.demonstrations": ("prompt.demonstrations={kind='gpt3'}",),
    "prompt.calibration_demonstrations": ("prompt.calibration_demonstrations=false",),
    "prompt.begin": ("prompt.begin=<s>",),
    "prompt.calibration": ("prompt.calibration=contextual",),
    "prompt.score": ("prompt.score=sum",),
    "prompt.templates": ('prompt.templates=["lm-bff"]',),
    "generation.max_new_tokens": ("generation.max_new_tokens=7",),
    "generation.stop": ("generation.stop=.",),
    "generation.sampling": ("generation.sampling=true",),
    "generation.temperature": ("generation.sampling=true", "generation.temperature=0.5"),
    "generation.top_p": ("generation.sampling=true", "generation.top_p=0.5"),
    "generation.beams": ("generation.beams=2",),
    "tuning.kind": ("tuning.kind=bitfit",),
    "seed": ("seed=14",),
    "method.kind": ("method.kind=adam",),
    "method.lr": ("method.lr=0.5",),
    "method.steps": ("method.steps=7",),
    "method.batch_size": ("method.batch_size=7",),
    "method.accumulate": ("method.accumulate=7",),
    "method.schedule": ("method.schedule=cosine",),
    "method.warmup_steps": ("method.warmup_steps=7",),
    "method.weight_decay": ("method.weight_decay=0.5",),
    "method.objective": ("method.objective=language-model",),
    "method.eval_every": ("method.eval_every=7",),
    "method.select": ("method.select=last",),
    "method.patience": ("method.patience=7",),
    "method.eps": ("method.eps=0.5",),
    "method.samples": ("method.samples=7",),
    "method.directions": ("method.directions=rademacher",),
    "method.rounding": ("method.rounding=nearest",),
    "method.nonfinite": ("method.nonfinite=skip",),
    "method.engine": ("method.engine=fused",),
    "method.max_rows": ("method.max_rows=7",),
    "method.sides": ("method.sides=1",),
    "method.scale_lr": ("method.scale_lr=true",),
    "method.grow_over": ("method.grow_over=7",),
    "method.norms": ("method.norms=gradients",),
    "method.recompute_every": ("method.recompute_every=7",),
    "method.of": ("method.of=estimate",),
    "method.moments": ("method.moments=recompute",),
    "method.floor": ("method.floor=0.5",),
    "method.smoothing": ("method.smoothing=constant1e-2",),
    "method.power": ("method.power=0.5",),
    "method.beta": ("method.beta=0.5",),
    "method.antithetic": ("method.antithetic=true",),
    "method.shape": ("method.shape=rank",),
    "method.rank": ("method.rank=7",),
    "method.period": ("method.period=7",),
    "method.divide_by_rank": ("method.divide_by_rank=false",),
    "method.sparsity": ("method.sparsity=0.5",),
    "method.share": ("method.share=0.5",),
    "method.choose": ("method.choose=magnitude",),
    "method.betas": ("method.betas=[0.5, 0.5]",),
    "method.epsilon": ("method.epsilon=0.5",),
    "method.max_grad_norm": ("method.max_grad_norm=7",),
    "method.gradient_checkpointing": ("method.gradient_checkpointing=true",),
    "method.mixed_precision": ("method.mixed_precision=bfloat16",),
    "method.momentum": ("method.momentum=0.5",),
    "method.begin": ("method.begin=linear-probe",),
    "method.intercept": ("method.intercept=false",),
    "method.features": ("method.features=mean",),
    "method.standardise": ("method.standardise=true",),
    "method.strengths": ("method.strengths=[1.0]",),
    "method.choose_on": ("method.choose_on=dev",),
    "method.folds": ("method.folds=3",),
    "method.max_iterations": ("method.max_iterations=7",),
    "method.tolerance": ("method.tolerance=0.5",),
    "method.formula": ("method.formula=signgd",),
    "method.solver": ("method.solver=ridge",),
    "method.grid": ("method.grid={regularization = [0, 0.1]}",),
    "method.files": ("method.files={train = 'train.pt'}",),
    "method.exclude": ("method.exclude=['head']",),
    "method.cosine": ("method.cosine=true",),
    "method.projection": ("method.projection=7",),
    "method.compute": ("method.compute.batch_size=7",),
    "tuning.r": ("tuning.r=7",),
    "tuning.alpha": ("tuning.alpha=7",),
    "tuning.dropout": ("tuning.dropout=0.5",),
    "tuning.targets": ("tuning.targets=['key']",),
    "tuning.rslora": ("tuning.rslora=true",),
    "tuning.dora": ("tuning.dora=true",),
    "tuning.embeddings": ("tuning.embeddings=untied",),
    "tuning.reinit": ("tuning.reinit=query",),
    "tuning.also": ("tuning.also=query",),
    "tuning.add": ("tuning.add=true",),
    "tuning.pattern": ("tuning.pattern=query",),
    "tuning.n": ("tuning.n=7",),
    "tuning.part": ("tuning.part=first",),
    "tuning.frozen": ("tuning.frozen=true",),
    "tuning.feedforward": ("tuning.feedforward=['key']",),
    "tuning.method": ("tuning.method=lokr",),
    "tuning.fields": ("tuning.fields={r = 4}",),
    "tuning.length": ("tuning.length=7",),
    "tuning.init": ("tuning.init=normal",),
    "tuning.tokens": ("tuning.tokens=[1, 2, 3, 4, 5]",),
    "tuning.reparametrise": ("tuning.reparametrise=true",),
    "tuning.hidden": ("tuning.reparametrise=true", "tuning.hidden=7"),
    "tuning.shift": ("tuning.shift=true",),
    "tuning.style": ("tuning.style=pfeiffer",),
    "tuning.width": ("tuning.width=7",),
    "tuning.activation": ("tuning.activation=relu",),
    "tuning.scale": ("tuning.scale=7",),
    "tuning.budget": ("tuning.budget=7",),
    "tuning.granularity": ("tuning.granularity=row",),
    "tuning.scorer": ("tuning.scorer={kind = 'magnitude'}",),
    "tuning.scope": ("tuning.scope=query",),
    "tuning.over": ("tuning.over=half", "tuning.insert=['lora']"),
    "tuning.insert": ("tuning.over=half", "tuning.insert=['lora']"),
    "tuning.compat": ("tuning.compat=pet-scaling",),
    "tuning.seed": ("tuning.seed=7",),
}
OWNERS = {
    "method": {
        key: name for name in (*METHODS.names(), "sgd", "adam", "mezo") for key in METHODS.get(name).model_fields
    },
    "tuning": {key: name for name in (*TUNINGS.names(), "prefix", "lora") for key in TUNINGS.get(name).model_fields},
}
# What some kinds cannot do without.
NEEDED = {"pattern": {"pattern": "bias"}, "peft": {"method": "loha"}}


def home(key: str) -> RunConfig:
    """Return a config that has the setting."""
    section, _, name = key.partition(".")
    kind = OWNERS.get(section, {}).get(name)
    sections: dict[str, Any] = (
        {} if kind is None or name == "kind" else {section: {"kind": kind} | NEEDED.get(kind, {})}
    )
    if key in ("prompt.begin", "prompt.calibration_demonstrations"):
        shown = {"demonstrations": {"kind": "in-context"}, "calibration": "surface-form"}
        sections |= {"task": "mezo/SST2", "model": {"kind": "causal", "name": "opt"}, "prompt": shown}
    if section == "generation":
        sections |= {"task": "mezo/SQuAD", "model": {"kind": "causal", "name": "opt"}}
    if key == "prompt.answer":
        sections["model"] = {"kind": "causal", "name": "opt"}
    if key == "tuning.dropout":
        sections["method"] = {"kind": "adam"}
    return config(**sections)


@pytest.mark.parametrize("key", CHANGES)
def test_every_setting_that_can_change_a_number_changes_the_run_id(key: str) -> None:
    before = home(key)
    after = load_config(
        None, CHANGES[key], table=before.model_dump(exclude={"task"}, exclude_unset=True) | {"task": before.task.name}
    )
    section, _, name = key.partition(".")
    if name:
        assert getattr(getattr(after, section), name) != getattr(getattr(before, section), name)
    assert after.run_id != before.run_id


def settings_of(section: str, choices: Any) -> Iterator[str]:
    for choice in choices:
        yield from (f"{section}.{name}" for name in choice.model_fields)


def test_every_setting_is_tested_above() -> None:
    fields = RunConfig.model_fields
    known = {"seed", "data.revision"}  # the revision: below
    known |= set(settings_of("data", [fields["data"].annotation])) | set(
        settings_of("prompt", [fields["prompt"].annotation])
    )
    known |= set(settings_of("generation", [fields["generation"].annotation]))
    known |= set(settings_of("model", (entry for _, entry in MODEL_KINDS.items())))
    known |= set(settings_of("method", (entry for _, entry in METHODS.items())))
    known |= set(settings_of("tuning", (entry for _, entry in TUNINGS.items())))
    assert known == set(CHANGES) | {"data.revision", "method.log_every"}
    assert set(fields) == {"task", "data", "model", "prompt", "tuning", "method", "generation", "seed", "output"}


SUBSET = {"mode": "subset", "num_train": 8, "num_dev": 4}


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        ({"num_dev": None}, "mezo", r"data\.num_dev is needed: method\.kind='mezo' is measured on dev while it trains"),
        ({"num_train": 0}, "adam", r"data\.num_train=0 leaves method\.kind='adam' nothing to train on"),
        ({"num_dev": None, "per_example": True}, "zero-shot", r"no effect without prompt\.demonstrations"),
    ],
)
def test_subsets_that_do_not_suit_the_method_are_refused(data: dict[str, Any], method: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(data=SUBSET | data, method={"kind": method})
    assert config(data=SUBSET, method={"kind": method}).data.num_dev == 4


def test_many_training_sets_are_for_methods_that_train_nothing() -> None:
    shown = {"model": {"kind": "causal", "name": "opt"}, "prompt": {"demonstrations": {"kind": "gpt3"}}}
    data = SUBSET | {"num_dev": None, "per_example": True}
    with pytest.raises(
        ConfigError, match=r"data\.per_example is for in-context learning; method\.kind='mezo' trains on one"
    ):
        config(data=data, **shown)
    assert config(data=data, method={"kind": "in-context"}, **shown).data.per_example


def test_the_revision_of_hub_data_changes_the_run_id() -> None:
    assert config(data={"revision": "abc"}).run_id != config(data={}).run_id


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"labels": [{"name": "1", "word": "great"}, {"name": "0", "word": "terrible"}]},
        {"labels": [{"name": "0", "word": "bad"}, {"name": "1", "word": "great"}]},
        {"templates": {"other": {"masked": "*cls**sent_0*_So*mask*.*sep+*"}}},
        {"limits": {"max_tokens": 100}},
        {"metrics": ["mcc"]},
    ],
    ids=["version", "order of labels", "label word", "template", "limit", "metric"],
)
def test_what_a_task_says_changes_the_run_id(change: dict[str, Any]) -> None:
    task = config().task.model_dump(exclude={"golden"})
    assert config(task=task | change).run_id != config(task=task).run_id


def test_wording_output_and_log_lines_do_not_change_the_run_id() -> None:
    task = config().task.model_dump()
    for label in task["labels"]:
        label["title"] = "reworded"
    reworded = config(task=task | {"title": "reworded", "golden": []})
    assert reworded.run_id == config().run_id
    assert config("method.log_every=7").run_id == config().run_id
    output = ("output.folder=elsewhere", "output.keep_model=true", "output.eval_batch_size=3", "output.eval_tokens=99")
    assert config(*output).run_id == config().run_id
    assert config("output.folder=elsewhere").folder == Path("elsewhere") / config().run_id


def test_the_run_id_depends_on_values_not_on_how_they_are_written(tmp_path: Path) -> None:
    spelled_out = load_config(None, table=config().model_dump())
    as_json = RunConfig.model_validate(json.loads(config().model_dump_json()))
    backwards = load_config(None, table=dict(reversed(BASE.items())))
    other_case = config(task="sst-2")
    whole = config("method.eps=1e-3", "method.weight_decay=0", "seed=13")
    ids = {found.run_id for found in (config(), spelled_out, as_json, backwards, other_case, whole)}
    assert len(ids) == 1
    assert len(ids.pop()) == 16


@pytest.mark.parametrize("method", [{"kind": "mezo", "log_every": 7}, {"kind": "zero-shot"}], ids=["mezo", "zero-shot"])
def test_tables_and_run_ids_leave_out_the_same(method: dict[str, Any]) -> None:
    found = config(method=method)
    dump = found.model_dump(mode="json")
    assert identity_of(dump) == found.identity()
    assert "output" in dump  # left as it was
    assert not {"output", "title", "golden", "log_every"} & {*found.identity(), *found.identity()["task"]}
    assert all("title" not in label for label in found.identity()["task"]["labels"])
    assert "log_every" not in found.identity()["method"]


def test_a_setting_at_its_default_is_not_in_the_run_id_and_the_order_of_templates_is() -> None:
    spelled_out = config("method.eps=1e-3", "prompt.truncate=tail")
    assert config("method.eps=1e-3").run_id == config().run_id != spelled_out.run_id
    task = config().task.model_dump()
    two = {"a": {"masked": "*sent_0*_So*mask*."}, "b": {"masked": "*sent_0*_Well*mask*."}}
    ids = {config(task=task | {"templates": dict(pairs)}).run_id for pairs in (two.items(), reversed(two.items()))}
    assert len(ids) == 2


def test_the_run_id_is_stable() -> None:
    """If this fails, every finished run of every user will be made again: say so in the changelog, then change it."""
    task = {
        "name": "t",
        "sentences": ["s"],
        "labels": [{"name": "0", "word": "a"}, {"name": "1", "word": "b"}],
        "templates": {"first": {"masked": "*sent_0*_So*mask*."}},
    }
    table = BASE | {"task": task}
    assert load_config(None, table=table).run_id == "96416694dd8b35b9"


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_equal_settings_and_only_they_share_a_run_id(one: float, other: float, seed: int, second: int) -> None:
    pair = [config(method={"kind": "mezo", "lr": lr}, seed=s) for lr, s in ((one, seed), (other, second))]
    assert (pair[0].run_id == pair[1].run_id) == ((one, seed) == (other, second))


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().seed = 3


def test_paths_of_a_recipe_are_meant_from_its_folder_and_those_of_overrides_from_here(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    task = tmp_path / "task.toml"
    task.write_text(
        'name = "t"\nsentences = ["s"]\nlabels = [{name = "0", word = "a"}, {name = "1", word = "b"}]\n'
        'templates.first.masked = "*sent_0*_So*mask*."\n'
    )
    recipe.write_text(
        'task = "./task.toml"\n[data]\nsource = "../data"\ntest_source = "tests"\n'
        '[model]\nkind = "masked"\nname = "./model"\n[method]\nkind = "zero-shot"\n'
    )
    found = load_config(recipe)
    assert found.task.name == "t"
    assert found.data.source == str(tmp_path.resolve().parent / "data")
    assert found.data.test_source == "tests"
    assert found.model.name == str(tmp_path.resolve() / "model")
    assert load_config(recipe, ["model.name=./here"]).model.name == str(Path("here").resolve())
    assert load_config(recipe, ["model.name=here"]).model.name == "here"


def test_the_run_id_does_not_depend_on_the_folder_a_recipe_is_run_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    text = 'task = "SST-2"\n[data]\nsource = "./data"\n[model]\nkind = "masked"\nname = "../masked"\n'
    (tmp_path / "inner" / "recipe.toml").write_text(text + '[method]\nkind = "zero-shot"\n')
    ids: set[str] = set()
    for folder, recipe in ((tmp_path, "inner/recipe.toml"), (tmp_path / "inner", "recipe.toml")):
        monkeypatch.chdir(folder)
        ids.add(load_config(Path(recipe)).run_id)
    assert len(ids) == 1


def test_a_model_folder_of_the_recipe_that_is_missing_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(
        'task = "SST-2"\n[model]\nkind = "masked"\nname = "./masked"\n[method]\nkind = "zero-shot"\n'
    )
    with pytest.raises(ModelError, match=r"model\.name='/.*/masked': there is no such folder"):
        load_tokenizer(load_config(Path("recipe.toml")).model)


def test_a_table_lies_on_top_of_a_recipe_and_overrides_on_top_of_both(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "SST-2"\nseed = 1\n[model]\nkind = "masked"\nname = "x"\n[method]\nkind = "mezo"\nlr = 1.0\neps = 2.0\n'
    )
    found = load_config(recipe, ["method.eps=4"], table={"seed": 2, "method": {"lr": 3.0}})
    assert (found.seed, getattr(found.method, "lr", None), getattr(found.method, "eps", None)) == (2, 3.0, 4.0)


RECIPE = """
task = "SST-2"
[model]
kind = "masked"
name = "x"
[tuning]
kind = "lora"
r = 4
[method]
kind = "mezo"
lr = 1.0
eps = 2.0
samples = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_another_kind_leaves_out_the_section_of_the_recipe_and_says_so(recipe: Path) -> None:
    notes: list[str] = []
    found = load_config(recipe, ["method.kind=adam", "tuning.kind=bitfit"], tell=notes.append)
    assert found.method == METHODS.get("adam")()
    assert notes == [
        "tuning.kind='bitfit' instead of 'lora': tuning.r of the recipe is left out; the defaults of 'bitfit' apply",
        "method.kind='adam' instead of 'mezo': method.lr, method.eps, method.samples of the recipe are left out; "
        "the defaults of 'adam' apply",
    ]
    table = {"method": {"kind": "zero-shot"}, "tuning": {"kind": "full"}}
    assert load_config(recipe, table=table) == load_config(recipe, ["method.kind=zero-shot", "tuning.kind=full"])


def test_keys_given_with_another_kind_stay(recipe: Path) -> None:
    notes: list[str] = []
    found = load_config(recipe, ["method.lr=3", "method.kind=adam", "method.steps=7"], tell=notes.append)
    assert found.method == METHODS.get("adam")(lr=3, steps=7)
    assert [note.partition(" of the recipe")[0] for note in notes] == [
        "method.kind='adam' instead of 'mezo': method.eps, method.samples"
    ]


def test_another_kind_of_model_keeps_what_all_kinds_have(recipe: Path) -> None:
    notes: list[str] = []
    assert load_config(recipe, ["model.kind=head"], tell=notes.append).model.name == "x"
    assert notes == []


def test_another_kind_leaves_out_nothing_where_nothing_is_in_the_way(recipe: Path) -> None:
    notes: list[str] = []
    same = load_config(recipe, ["method.kind=mezo"], tell=notes.append)
    assert same.run_id == load_config(recipe).run_id
    whole = load_config(recipe, ["method={kind='adam'}"], tell=notes.append)
    assert whole.run_id == load_config(recipe, ["method.kind=adam"]).run_id
    assert notes == []


@pytest.mark.parametrize(
    ("overrides", "recipe_line", "where"),
    [
        (["method.kind=adam", "method.eps=1"], "", "method.eps"),
        (["method.kind=adam"], "epz = 1", "method.epz"),
        (["method.kind=adma"], "", "method.kind"),
    ],
    ids=["given on the command line", "known to no kind", "no such kind"],
)
def test_another_kind_excuses_no_mistake(recipe: Path, overrides: list[str], recipe_line: str, where: str) -> None:
    recipe.write_text(RECIPE + recipe_line)
    notes: list[str] = []
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, overrides, tell=notes.append)
    assert [problem.where for problem in caught.value.problems] == [where]
    assert notes == []


def test_mistakes_name_the_recipe_and_the_overrides(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('task = "SST-2"\n[model]\nkind = "masked"\nname = "x"\n')
    with pytest.raises(ConfigError, match=r"recipe\.toml with seed=-1: 2 problems") as caught:
        load_config(recipe, ["seed=-1"])
    assert {problem.where for problem in caught.value.problems} == {"method", "seed"}


def test_a_value_that_fits_none_of_several_types_is_one_problem() -> None:
    wanted = (
        r"1 problem\n  method\.smoothing: got 'constant1e-7'; did you mean 'constant1e-8'\? Allowed: constant0, .*; "
        r"or it should be a number or should be a list"
    )
    with pytest.raises(ConfigError, match=wanted):
        config(method={"kind": "hizoo", "smoothing": "constant1e-7"})
