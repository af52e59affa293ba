"""Predictions of a run: scores on disk as they come, the rows of predictions.jsonl, and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from shoestring.models.combining import inputs_of
from shoestring.models.evaluation import evaluate, taught
from shoestring.models.prompted import predictions
from shoestring.runs.hardest import hardest, prompt_text
from shoestring.tasks.spec import DEV

if TYPE_CHECKING:
    from shoestring.data.example import Example
    from shoestring.methods.base import Outcome, Writer
    from shoestring.progress import Progress
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.runs.answer_log import AnswerLog
    from shoestring.runs.config import RunConfig

Prompts = Mapping[str, Sequence["EncodedPrompt"]]
TEXTS = "written"


@dataclass(frozen=True)
class Answered:
    """What was predicted, by split.

    Attributes:
        scores: of the candidates [N, C]; of a generation task, mean log p of the right answers' tokens [N, 1].
        texts: written answers [N], of a generation task.
    """

    scores: Mapping[str, Tensor]
    texts: Mapping[str, Sequence[str]]


def answer(outcome: Outcome, prompts: Prompts, config: RunConfig, log: AnswerLog, progress: Progress) -> Answered:
    """Return the predictions of all splits but train; those that `log` has are not made again."""
    names, written = predicted_splits(prompts), not config.task.has_scores
    asked = {name: taught(prompts[name]) if written else prompts[name] for name in names}
    scores = {name: predict(outcome, name, asked[name], config, log, progress) for name in names}
    texts = {name: write(outcome, name, prompts[name], config, log, progress) for name in names if written}
    return Answered(scores, texts)


def predicted_splits(prompts: Prompts) -> list[str]:
    """Return the splits to predict: dev and the tests; where nothing is selected, there may be no dev set."""
    return [name for name, examples in prompts.items() if name != "train" and examples]


def predict(
    outcome: Outcome, name: str, prompts: Sequence[EncodedPrompt], config: RunConfig, log: AnswerLog, progress: Progress
) -> Tensor:
    """Return the scores [N, C] of a split; those that `log` has are not made again, the others are written to it."""
    known = log.known(name)
    left = [prompt for prompt in prompts if prompt.uid not in known]
    total = sum(len(inputs_of(prompt)) for prompt in left)
    dtype = torch.float64 if config.model.dtype == "float64" else torch.float32
    rows = {uid: torch.tensor(answer, dtype=dtype) for uid, answer in known.items()}

    def note(number: int, scores: Tensor) -> None:
        log.add(name, left[number].uid, scores.tolist())

    if left:
        with progress.bar(f"{config.task.name}: predict {name}", total) as bar:
            found = outcome.predictor.predict(left, config.output.eval_batch_size, bar, note)
        rows |= {prompt.uid: row[: len(prompt.options) or None] for prompt, row in zip(left, found, strict=True)}
    return pad_sequence([rows[prompt.uid] for prompt in prompts], batch_first=True, padding_value=-torch.inf)


def write(
    outcome: Outcome, name: str, prompts: Sequence[EncodedPrompt], config: RunConfig, log: AnswerLog, progress: Progress
) -> list[str]:
    """Return the written answers [N] of a split; those that `log` has are not made again, the others are written to it.

    In the log they stand beside the scores of the right answers, under a name of their own.
    """
    place = f"{name}: {TEXTS}"
    texts = {uid: str(answer) for uid, answer in log.known(place).items()}
    left = [prompt for prompt in prompts if prompt.uid not in texts]
    if left:
        # A method whose predictor writes nothing is refused these tasks when the config is built.
        writer = cast("Writer", outcome.predictor)
        with progress.bar(f"{config.task.name}: write {name}", len(left)) as bar:
            found = writer.generate(
                left, config.output.eval_batch_size, bar, lambda number, text: log.add(place, left[number].uid, text)
            )
        texts |= {prompt.uid: text for prompt, text in zip(left, found, strict=True)}
    return [texts[prompt.uid] for prompt in prompts]


def metrics_of(config: RunConfig, prompts: Prompts, found: Answered) -> dict[str, dict[str, float]]:
    """Return the metrics of each split."""
    return {
        name: evaluate(config.task, prompts[name], rows, found.texts.get(name)) for name, rows in found.scores.items()
    }


def prediction_rows(
    config: RunConfig, prompts: Prompts, examples: Mapping[str, Sequence[Example]], found: Answered, tokenizer: Any
) -> Iterator[dict[str, Any]]:
    """Yield one row a prediction: split, uid, the right answer, the predicted one, and the scores of all.

    Of a generation task: split, uid, all right answers, the written one, and the mean log p of a token of the first
    right one. Of the test examples that were hardest, also the prompt, and the candidates where examples bring their
    own.
    """
    for split, texts in found.texts.items():
        kept = _kept(config, split, prompts, found)
        for at, (prompt, text, row) in enumerate(zip(prompts[split], texts, found.scores[split], strict=True)):
            shown = {"prompt": prompt_text(tokenizer, prompt)} if at in kept else {}
            answer = {"golds": list(prompt.golds), "prediction": text}
            yield {"split": split, "uid": prompt.uid, **answer, "score": float(row[0]), **shown}
    for split, rows in found.scores.items() if config.task.has_scores else ():
        predicted, kept = predictions(config.task, rows).tolist(), _kept(config, split, prompts, found)
        asked = zip(prompts[split], examples[split], predicted, rows, strict=True)
        for at, (prompt, example, number, row) in enumerate(asked):
            answer = _answer(config, prompt, example, number)
            shown = {"prompt": prompt_text(tokenizer, prompt)} if at in kept else {}
            if shown and example.candidates:
                shown |= {"candidates": list(example.candidates)}
            scores = row[: len(prompt.options) or None].tolist()
            yield {"split": split, "uid": prompt.uid, **answer, "scores": scores, **shown}


def _kept(config: RunConfig, split: str, prompts: Prompts, found: Answered) -> set[int]:
    if split == DEV:
        return set()
    return hardest(config.task, prompts[split], found.scores[split], found.texts.get(split))


def _answer(config: RunConfig, prompt: EncodedPrompt, example: Example, number: Any) -> dict[str, Any]:
    if config.task.range is not None:
        return {"label": prompt.label, "prediction": number}
    names = config.task.label_names or example.candidates
    several = {"golds": list(example.golds)} if example.candidates and len(example.golds) > 1 else {}
    return {"label": example.label, "prediction": names[number], **several}
