"""Linear probing: a linear classifier of what the frozen model makes of an example."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.config import Settings
from shoestring.methods.base import METHODS, Given, Outcome

if TYPE_CHECKING:
    from shoestring.data.settings import DataSettings
    from shoestring.models.settings import ModelSettings
    from shoestring.prompts.settings import PromptSettings
    from shoestring.tasks.spec import Task

Features = Literal["label-word", "first-token", "mean", "scores", "log-probabilities", "probabilities"]
_OF_SCORES = ("scores", "log-probabilities", "probabilities")


class LinearProbe(Settings):
    """Logistic regression on features of the pretrained model, whose weights stay; for values, ridge regression.

    Scores are the classifier's log-probabilities. Forward passes are made once over the training set, and none beside
    them in fitting. Other methods can begin with it: `method.begin = "linear-probe"`.

    Source: Malladi et al. 2023 (MeZO), section 3 and appendix E (LP); princeton-nlp/MeZO
        medium_models/src/linearhead_trainer.py (features, `prob_as_feature`, iterations, tolerance).
    """

    trains: ClassVar[bool] = False
    needs_backward: ClassVar[bool] = False
    writes: ClassVar[bool] = False

    kind: Literal["linear-probe"] = "linear-probe"
    features: Features = "label-word"
    """What the classifier reads. `label-word`: the state that the output layer scores label words from (with a
    classification head, what its last layer reads); `first-token`, `mean`: the last hidden state of the first token, or
    the mean over all, of the encoder where there is a decoder too; `scores`: the scores of the candidates as they are,
    or their `log-probabilities` or `probabilities` over the candidates."""
    standardise: bool = False
    """Give every feature mean 0 and variance 1 over the examples that are fitted."""
    intercept: bool = True
    """Whether the classifier has a free bias; where it becomes an output layer (`begin` of other methods), only if that
    has biases."""
    strengths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = tuple(10.0**power for power in range(-4, 5))
    """Inverse strengths C of the penalty to choose from: a smaller one holds weights back more."""
    choose_on: Literal["train", "dev"] = "train"
    """Where C is chosen: by cross-validation on the training set, or on dev; never on test."""
    select: Literal["metric", "loss"] = "metric"
    """What is best: the task's main metric, or the loss; of equals, the smallest C."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the cross-validation; as many as the rarest label has examples, where those are fewer."""
    max_iterations: PositiveInt = 5000
    """Most iterations (L-BFGS) of a fit."""
    tolerance: PositiveFloat = 1e-4
    """A fit ends where the largest part of the gradient is below this."""

    def problems(self, task: Task, data: DataSettings, model: ModelSettings, prompt: PromptSettings) -> Iterator[str]:
        """Yield what makes no sense together with the rest of a run."""
        what, hidden = f"method.kind={self.kind!r}", self.features not in _OF_SCORES
        if task.kind == "multiple-choice":
            yield f"{what} tells labels apart, and the examples of {task.name} bring answers of their own"
        if data.mode == "subset" and data.per_example:
            yield f"data.per_example is for in-context learning; {what} is fitted to one training set"
        if data.mode == "subset" and not data.num_train:
            yield f"data.num_train=0 leaves {what} nothing to be fitted to"
        if data.mode == "subset" and not data.num_dev and self.choose_on == "dev":
            yield "method.choose_on='dev' needs data.num_dev"
        if self.choose_on == "dev" and self.folds != type(self).model_fields["folds"].default:
            yield "method.folds has no effect with method.choose_on='dev'"
        for key in ("calibration", "score") if hidden else ():
            if getattr(prompt, key) != type(prompt).model_fields[key].default:
                yield f"prompt.{key} has no effect: method.features={self.features!r} are no scores"
        if self.features == "first-token" and model.kind == "causal":
            yield "method.features='first-token': of a causal model it has read nothing else; use 'mean'"
        if task.kind == "regression" and model.kind == "head" and self.features.endswith("probabilities"):
            yield f"method.features={self.features!r}: a head has one output for values, and no probabilities"

    def problems_as_beginning(self, task: Task, prompt: PromptSettings, kind: str) -> Iterator[str]:
        """Yield what speaks against another method's beginning with it, on a model of this kind."""
        what = "method.begin"
        if task.kind not in ("classification", "regression"):
            yield f"{what} tells labels apart, and the examples of {task.name} bring answers of their own"
            return
        if self.features != "label-word":
            yield (
                f"{what}.features={self.features!r}: the output layer reads nothing but 'label-word'; "
                f"method.kind={self.kind!r} has the others"
            )
        if task.kind == "regression" and kind != "head":
            yield (
                f"{what}: values of {task.name} are scored between two label words, of which a probe of values has "
                'none; use model.kind="head"'
            )
        if self.choose_on == "dev" and self.folds != type(self).model_fields["folds"].default:
            yield f"{what}.folds has no effect with {what}.choose_on='dev'"
        if prompt.calibration is not None:
            yield f"prompt.calibration with {what}: a probe is fitted to scores as they are; leave one of them out"

    def fit(self, given: Given) -> Outcome:
        """Fit the classifier; the model stays as it is."""
        from shoestring.methods.probing import Probe, fit_probe, scikit_learn

        scikit_learn()  # Its import is not part of what is measured.
        begin = time.perf_counter()
        with given.memory.lap("fit"):
            linear, facts = fit_probe(self, given)
        return Outcome(Probe(given.subject, self.features, linear), time.perf_counter() - begin, facts)


# Not as a decorator, for the class is a type of fields elsewhere.
METHODS.register("linear-probe")(LinearProbe)
