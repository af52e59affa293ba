"""Predictions of a run: scores on disk as they come, the rows of predictions.jsonl, and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from shoestring.models.combining import inputs_of
from shoestring.models.prompted import predictions

if TYPE_CHECKING:
    from shoestring.data.example import Example
    from shoestring.methods.base import Outcome
    from shoestring.progress import Progress
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.runs.answer_log import AnswerLog
    from shoestring.runs.config import RunConfig

Prompts = Mapping[str, Sequence["EncodedPrompt"]]


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


def prediction_rows(
    config: RunConfig, prompts: Prompts, examples: Mapping[str, Sequence[Example]], scores: Mapping[str, Tensor]
) -> Iterator[dict[str, Any]]:
    """Yield one row a prediction: split, uid, the right answer, the predicted one, and the scores of all."""
    for split, rows in scores.items():
        predicted = predictions(config.task, rows).tolist()
        for prompt, example, number, row in zip(prompts[split], examples[split], predicted, rows, strict=True):
            answer = _answer(config, prompt, example, number)
            yield {"split": split, "uid": prompt.uid, **answer, "scores": row[: len(prompt.options) or None].tolist()}


def _answer(config: RunConfig, prompt: EncodedPrompt, example: Example, number: Any) -> dict[str, Any]:
    if config.task.range is not None:
        return {"label": prompt.label, "prediction": number}
    names = config.task.label_names or example.candidates
    return {"label": example.label, "prediction": names[number]}
