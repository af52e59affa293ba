from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shoestring.errors import ConfigError, UnknownNameError
from shoestring.prompts.check import check_task
from shoestring.tasks.load import FIRST_SUITE, load_task, suites, task_names

if TYPE_CHECKING:
    from pathlib import Path

LM_BFF = [
    "SST-2",
    "sst-5",
    "mr",
    "cr",
    "mpqa",
    "subj",
    "trec",
    "CoLA",
    "MRPC",
    "QQP",
    "STS-B",
    "MNLI",
    "SNLI",
    "QNLI",
    "RTE",
]
T1 = "*cls**sent_0*_It_was*mask*.*sep+*"
T2 = "*cls**sent_0*_This_is*mask*.*sep+*"
T3 = "*cls**sent_0**mask*,*+sentl_1**sep+*"
T4 = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
T5 = "*cls**mask*:*+sent_0**sep+*"
NLI = {"contradiction": "No", "entailment": "Yes", "neutral": "Maybe"}
SENTIMENT = {"0": "terrible", "1": "great"}
SAME = {"0": "No", "1": "Yes"}
HOLDS = {"entailment": "Yes", "not_entailment": "No"}
# template, label words in the order of the ids, (longest input, first sentence, other sentences), metrics
PUBLISHED = {
    "SST-2": (T1, SENTIMENT, (128, None, None), ("accuracy",)),
    "sst-5": (
        T1,
        dict(zip("01234", ["terrible", "bad", "okay", "good", "great"], strict=True)),
        (128, 110, 20),
        ("accuracy",),
    ),
    "mr": (T1, SENTIMENT, (128, 110, 50), ("accuracy",)),
    "cr": (T1, SENTIMENT, (128, 110, 50), ("accuracy",)),
    "mpqa": (T1, SENTIMENT, (128, 110, None), ("accuracy",)),
    "subj": (T2, {"0": "subjective", "1": "objective"}, (128, 110, 50), ("accuracy",)),
    "trec": (
        T5,
        dict(zip("012345", ["Description", "Entity", "Expression", "Human", "Location", "Number"], strict=True)),
        (128, 110, None),
        ("accuracy",),
    ),
    "CoLA": (T2, {"0": "incorrect", "1": "correct"}, (128, None, None), ("mcc",)),
    "MRPC": (T3, SAME, (128, None, None), ("accuracy", "f1")),
    "QQP": (T3, SAME, (128, None, None), ("accuracy", "f1")),
    "STS-B": (T3, SAME, (128, None, None), ("pearson", "spearman")),
    "MNLI": (T4, NLI, (256, 240, None), ("accuracy",)),
    "SNLI": (T4, NLI, (256, None, None), ("accuracy",)),
    "QNLI": (T4, HOLDS, (128, None, None), ("accuracy",)),
    "RTE": (T4, HOLDS, (256, 240, None), ("accuracy",)),
}


def test_the_catalogue_holds_the_fifteen_lm_bff_tasks() -> None:
    assert set(LM_BFF) <= set(task_names(FIRST_SUITE))
    for suite, names in suites().items():
        assert list(names) == sorted(names, key=str.casefold)
        assert suite == FIRST_SUITE or all(name.startswith(f"{suite}/") for name in names)
    assert task_names() == tuple(name for names in suites().values() for name in names)
    assert len({*task_names()}) == len(task_names())


@pytest.mark.parametrize("name", LM_BFF)
def test_a_task_is_asked_as_published(name: str) -> None:
    task = load_task(name)
    template, words, limits, metrics = PUBLISHED[name]
    assert task.name == name
    assert task.template().masked == template
    assert dict(zip(task.label_names, task.label_words(task.template()), strict=True)) == words
    assert list(task.label_names) == list(words)
    held = task.limits
    assert (held.max_tokens, held.first_sentence_tokens, held.other_sentence_tokens) == limits
    assert task.metrics == metrics


@pytest.mark.parametrize("name", task_names(FIRST_SUITE))
def test_every_task_of_lm_bff_has_both_forms_sources_and_golden_renderings(name: str) -> None:
    task = load_task(name)
    form = task.template()
    assert form.masked is not None
    assert form.causal is not None
    assert "*mask*" not in form.causal
    assert not form.causal.endswith(("_", " "))
    # After a line break the answer needs no space of its own; after a word it does.
    assert form.answer.startswith(" ") != form.causal.endswith("\n")
    assert task.sources.files is not None
    assert task.sources.hub is not None
    assert task.golden
    for golden in task.golden:
        assert golden.masked is not None
        assert "<mask>" in golden.masked
        assert golden.causal is not None
        assert golden.causal.startswith("<bos>")


@pytest.mark.parametrize("name", task_names())
def test_every_catalogue_task_passes_its_own_check_golden_renderings_included(name: str) -> None:
    assert check_task(load_task(name)) == []


def test_stsb_is_regression_between_its_two_poles() -> None:
    task = load_task("STS-B")
    assert task.kind == "regression"
    assert task.range is not None
    assert (task.range.low, task.range.high, task.range.threshold) == (0, 5, 2.5)


def test_mnli_has_two_test_sets_under_their_published_names() -> None:
    files, hub = load_task("MNLI").sources.files, load_task("MNLI").sources.hub
    assert files is not None
    assert hub is not None
    assert files.files == {"train": "train.tsv", "test": "dev_matched.tsv", "test-mismatched": "dev_mismatched.tsv"}
    assert files.drawn["dev"] == "dev_matched.tsv"
    assert [files.drawn["test"], files.drawn["test-mismatched"]] == ["test_matched.tsv", "test_mismatched.tsv"]
    assert hub.splits["test-mismatched"] == "validation_mismatched"


@pytest.mark.parametrize("given", ["sst-2", "SST-2", "Sst-2"])
def test_case_does_not_matter(given: str) -> None:
    assert load_task(given).name == "SST-2"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mezo/CB", "mezo/CB"),
        ("cb", "mezo/CB"),
        ("MEZO/cb", "mezo/CB"),
        ("RTE", "RTE"),
        ("mezo/rte", "mezo/RTE"),
        ("sst2", "mezo/SST2"),
    ],
)
def test_the_suite_may_be_left_out_where_no_earlier_one_has_the_name(given: str, meant: str) -> None:
    assert load_task(given).name == meant


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown suite 'mzo'; did you mean 'mezo'"):
        task_names("mzo")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("stsb", "STS-B"),
        ("sst5", "sst-5"),
        ("TREK", "trec"),
        ("copa2", "Copa"),
        ("superglue/CB", "CB"),
        ("superglue/rte", "RTE"),
        ("pet/cb", "pet/cb-2"),
    ],
)
def test_an_unknown_task_names_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown task '{given}'; did you mean '{meant}'"):
        load_task(given)


MINIMAL = """
name = "mine"
sentences = ["text"]
labels = [{ name = "a", word = "yes" }, { name = "b", word = "no" }]
"""


def written(tmp_path: Path, more: str, base: str = MINIMAL) -> str:
    (tmp_path / "mine.toml").write_text(base + more)
    return str(tmp_path / "mine.toml")


def test_a_task_file_of_the_users_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    assert load_task(written(tmp_path, "")).label_names == ("a", "b")


def test_a_missing_task_file_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, "")
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'mine.toml'"):
        load_task(str(tmp_path / "mime.toml"))


FILES = 'folder="x"\nformat="csv"\nheader=true\nsentences=["text"]\nlabel="label"\n'
BAD = {
    "unknown metric": ('metrics = ["acuracy"]', "there is no metric 'acuracy'; did you mean 'accuracy'"),
    "metric twice": ('metrics = ["mcc", "mcc"]', "metric 'mcc' stands twice"),
    "no metric": ("metrics = []", "metrics: .*at least 1"),
    "regression metric": ('metrics = ["pearson"]', "'pearson' is not for classification. Allowed: accuracy, f1, mcc"),
    "range of classes": ("range = {low = 0, high = 1, threshold = 0.5}", "a regression task, and only that"),
    "range in disorder": ("range = {low = 0, high = 1, threshold = 2}", "low < threshold < high does not hold"),
    "empty template": ("[templates.t]", "has neither a masked nor a causal nor a text form"),
    "final space": ('[templates.t]\ncausal = "*sent_0*_so_"', "ends in a space"),
    "answer without word": ('[templates.t]\ncausal = "*sent_0*_so"\nanswer = " it"', "lacks {word}"),
    "word for no label": ('[templates.t]\nmasked = "*mask*"\nlabel_words = {c = "x"}', "a word for label 'c'"),
    "word twice": ('[templates.t]\nmasked = "*mask*"\nlabel_words = {a = "no"}', "label word 'no' stands twice"),
    "golden of no template": ('[[golden]]\nsentences = ["x"]\ntemplate = "u"', "golden rendering of template 'u'"),
    "golden of two": ('[[golden]]\nsentences = ["x", "y"]', "golden rendering has 2 sentences, the task 1"),
    "split": (f'[sources.files]\n{FILES}files = {{train = "a", tets = "b"}}', "no split 'tets'; did you mean 'test'"),
    "no train": (f'[sources.files]\n{FILES}files = {{test = "a"}}', "split 'train' is missing"),
    "hub split": (
        '[sources.hub]\nid="x/y"\nsentences=["text"]\nlabel="label"\nsplits={train="train", valid="v"}',
        "there is no split 'valid'",
    ),
    "hub label": (
        '[sources.hub]\nid="x/y"\nsentences=["text"]\nlabel="label"\nlabels={zero="aa"}',
        "leads to label 'aa'; did you mean 'a'",
    ),
    "hub sentences": (
        '[sources.hub]\nid="x/y"\nsentences=["t", "u"]\nlabel="l"',
        "a source has 2 sentences, the task 1",
    ),
    "names without header": (
        '[sources.files]\nfolder="x"\nformat="csv"\nheader=false\nsentences=[0]\nlabel="label"\nfiles={train="a"}',
        r"columns are named \(label\), but the file has no header",
    ),
    "positions in jsonl": (
        '[sources.files]\nfolder="x"\nformat="jsonl"\nheader=false\nsentences=[0]\nlabel="l"\nfiles={train="a"}',
        "columns of a jsonl file are names",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_task_file_is_refused_when_it_is_loaded(case: str, tmp_path: Path) -> None:
    more, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        load_task(written(tmp_path, more))


def test_a_regression_task_needs_two_poles_and_regression_metrics(tmp_path: Path) -> None:
    more = 'kind = "regression"\nrange = {low = 0, high = 1, threshold = 0.5}\n'
    with pytest.raises(ConfigError, match=r"'accuracy' is not for regression. Allowed: pearson, spearman"):
        load_task(written(tmp_path, more))
    three = MINIMAL.replace('no" }]', 'no" }, { name = "c", word = "perhaps" }]')
    with pytest.raises(ConfigError, match="a regression task has two labels"):
        load_task(written(tmp_path, more + 'metrics = ["pearson"]', three))


def test_a_template_may_have_label_words_of_its_own(tmp_path: Path) -> None:
    more = '[templates.t]\nmasked = "*mask*"\nlabel_words = {a = "sure"}\n[templates.u]\nmasked = "*mask*"'
    task = load_task(written(tmp_path, more))
    assert task.label_words(task.template()) == ("sure", "no")
    assert task.label_words(task.template("u")) == ("yes", "no")
    assert task.metric == "accuracy"


def test_a_task_without_templates_has_none_to_give(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="task mine: unknown template 'default'"):
        load_task(written(tmp_path, "")).template()


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(UnknownNameError, match="task trec: unknown template 'lmbff'; did you mean 'lm-bff'"):
        load_task("trec").template("lmbff")
