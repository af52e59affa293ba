"""Training that begins at a linear probe: the output layer is given the weights that logistic regression finds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.methods.probing import Linear, features_of, fit_probe
from shoestring.models.features import output_layer

if TYPE_CHECKING:
    from shoestring.methods.base import Given
    from shoestring.methods.catalog.linear_probe import LinearProbe
    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt

WHERE = "method.begin"
_LOOKED_AT = 8
"""Training examples whose scores are compared with those of the probe."""
# Scores differ by so much of the largest, at most, where the head holds the probe and nothing else happens.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_COARSE = 5e-2


@dataclass(frozen=True)
class Place:
    """Where the weights of a linear model belong.

    Attributes:
        name: of the matrix, for messages.
        weight: matrix of the output layer [R, D].
        bias: [R], where there is one.
        rows: row of each class, or of the one value.
    """

    name: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    rows: tuple[int, ...]

    def put(self, linear: Linear) -> None:
        """Write W, and b where there is one, into the rows."""
        rows = list(self.rows)
        with torch.no_grad():
            self.weight[rows] = torch.from_numpy(linear.weight).to(self.weight)
            if self.bias is not None:
                self.bias[rows] = torch.from_numpy(linear.bias).to(self.bias)


def begin_at_probe(settings: LinearProbe, given: Given) -> dict[str, Any]:
    """Give the output layer the weights of a linear probe of the model as it is, and return facts about it.

    A classification head has a row for each label. Of a language model these are the rows of the label words, so that
    scores of label words are those of the probe (but for the same number at all of them).

    Raises:
        ModelError: if there are no such rows of its own, if the tuning does not train them, or if the model does more
            to what its output layer gives.
        DataError: if the training set does not allow it.
    """
    begin = time.perf_counter()
    subject = given.subject
    with given.memory.lap("fit"):
        place = find_place(subject, given.train)
        settings = settings.model_copy(update={"intercept": settings.intercept and place.bias is not None})
        linear, facts = fit_probe(settings, given, WHERE)
        place.put(linear)
        _check(settings, subject, given.train[:_LOOKED_AT], linear)
    return {"begin": {**facts, "seconds": time.perf_counter() - begin}}


def find_place(subject: PromptedModel, train: Sequence[EncodedPrompt]) -> Place:
    """Return the rows of the output layer from which a task's labels are scored.

    Raises:
        ModelError: as `begin_at_probe`.
    """
    model, layer = subject.model, output_layer(subject)
    weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
    # A tied matrix is listed under the name of the input embedding.
    name = next((name for name, param in model.named_parameters() if param is weight), "the output layer")
    if not weight.requires_grad:
        raise ModelError(
            f"{WHERE}: the tuning does not train {name}, which the probe would give new rows; "
            'use tuning.kind="full" or "head", or add the output layer by tuning.also'
        )
    if not subject.scorer.has_vocabulary:
        return Place(name, weight, bias, tuple(range(layer.get_parameter("weight").shape[0])))
    if weight is model.get_input_embeddings().get_parameter("weight"):
        raise ModelError(
            f"{WHERE}: input and output embedding of {type(model).__name__} are one matrix, and the rows of the label "
            'words would no longer be embeddings; use tuning.embeddings="untied"'
        )
    words = {prompt.options for prompt in train}
    rows = tuple(option[0] for option in next(iter(words)))
    if len(words) > 1 or any(len(option) > 1 for options in words for option in options) or len(set(rows)) < len(rows):
        raise ModelError(
            f"{WHERE}: a label word of {subject.task.name} is more than one token of this model, or not the same for "
            "all examples, so it has no row of its own; choose other prompt.label_words"
        )
    return Place(name, weight, bias, rows)


def _check(settings: LinearProbe, subject: PromptedModel, prompts: Sequence[EncodedPrompt], linear: Linear) -> None:
    """Refuse a model whose scores are not those of the probe, since it does more behind its output layer."""
    features = features_of(subject, settings.features, prompts, len(prompts)).double().numpy()
    scores = subject.predict(prompts, len(prompts)).double()
    found = scores.log_softmax(-1) if linear.classes else scores
    wanted: Tensor = torch.from_numpy(np.asarray(linear.scores(features)))
    worst = float((found - wanted).abs().max() / (1 + wanted.abs().max()))
    if not worst <= _TOLERANCE.get(subject.model.dtype, _COARSE):
        raise ModelError(
            f"{WHERE}: {type(subject.model).__name__} does more to what its output layer gives (scores differ from "
            f"those of the probe by a share of {worst:.1g}), so a linear probe is no beginning for it"
        )
