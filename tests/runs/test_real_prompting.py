"""Zero-shot and 16-shot prompting of the large-model tasks on real files: scores and answers equal the slow twins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from reference import generation_twin, scoring_twin
from shoestring.data.splits import draw
from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.run import prepare

SOURCES = {
    "mezo/SST2": "lm-bff/SST-2/original",
    "mezo/RTE": "superglue/RTE",
    "mezo/CB": "superglue/CB",
    "mezo/Copa": "superglue/COPA",
    "mezo/SQuAD": "squad/xquad.en.json",
    "mezo/DROP": "drop/drop_contrast_sets_test.json",
}


@dataclass(frozen=True)
class Shown:
    """How many demonstrations, and how long a prompt may be."""

    count: int
    tokens: int


ANSWER = 8  # tokens
ZERO, SIXTEEN = Shown(0, 480), Shown(16, 510)


def config_of(shared: Path, task: str, shown: Shown) -> RunConfig:
    sizes = (0, 0) if shown is ZERO else (17, 2)
    overrides = [f"data.num_train={sizes[0]}", f"data.num_dev={sizes[1]}", f"prompt.max_tokens={shown.tokens}"]
    overrides += ["method.kind=zero-shot"]
    if shown is SIXTEEN:
        overrides[-1] = "method.kind=in-context"
        overrides += ["prompt.demonstrations.kind=in-context", f"prompt.demonstrations.count={shown.count}"]
    if task in ("mezo/SQuAD", "mezo/DROP"):
        overrides.append(f"generation.max_new_tokens={ANSWER}")
    model = {"name": str(shared / "stories260K"), "kind": "causal"}
    data = {"source": str(shared / SOURCES[task]), "mode": "subset", "num_eval": 5}
    return load_config(None, overrides, {"task": task, "model": model, "data": data})


@pytest.mark.parametrize("shown", [ZERO, SIXTEEN], ids=["zero-shot", "16-shot"])
@pytest.mark.parametrize("task", SOURCES)
def test_real_tasks_score_and_answer_as_one_candidate_at_a_time(shared: Path, task: str, shown: Shown) -> None:
    config = config_of(shared, task, shown)
    made = prepare(config, draw(config.task, config.data, config.seed))
    subject, prompts = made.subject, made.prompts["test"]
    found = subject.predict(prompts, 64)
    wanted = scoring_twin.causal_scores(subject.model, [prompt.taught or prompt for prompt in prompts])
    assert len(prompts) == 5
    for row, scores in zip(found, wanted, strict=True):
        torch.testing.assert_close(row[: len(scores)], torch.tensor(scores), rtol=1e-5, atol=1e-5)
    if subject.generator is not None:
        stops = subject.generator.stops(subject.model)
        tokens = [generation_twin.answer(subject.model, prompt.ids, stops, ANSWER) for prompt in prompts]
        assert subject.generate(prompts, 3) == [subject.generator.text(one, stops) for one in tokens]
