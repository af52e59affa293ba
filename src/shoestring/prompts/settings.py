"""What a recipe may say about prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from shoestring.config import Settings, union_of
from shoestring.prompts.demonstrations.base import DEMONSTRATIONS

if TYPE_CHECKING:
    from shoestring.prompts.demonstrations.base import Demonstrations as AnyDemonstrations
else:
    AnyDemonstrations = union_of(entry for _, entry in DEMONSTRATIONS.items())

Kind = Literal["masked", "causal", "head", "seq2seq"]
Truncate = Literal["head", "tail", "sentence", "error"]
Calibration = Literal["surface-form", "contextual"]


class PromptSettings(Settings):
    """How examples become model inputs. The defaults are the task file's own template, words and limits."""

    template: str | None = None
    """Name of one of the task's templates; or a template's text, such as `*cls**sent_0*_It_was*mask*.*sep+*` (whatever
    has a star in it is a text), or the prompt of a text form in Jinja, such as `{{ sentence }} It was`. Without it, the
    first of the task's templates that has a form for the model."""
    answer: str | None = None
    """How the label word continues a causal prompt, such as ` {word}`; of a text form in Jinja, ` {{ candidate }}`.
    Without it, the template's own."""
    label_words: dict[str, str] = Field(default_factory=dict)
    """Label words by label name, where they differ from the template's and the task's own."""
    max_tokens: PositiveInt | None = None
    """Longest whole input. Without it, the template's own limit or the task's `limits.max_tokens`; never more than the
    model can read. Of text forms of causal models it is the limit on the prompt with its answer, and what an answer may
    have that is to be written is kept free (not where `text.strip` is off, as in PET scaling)."""
    truncate: Truncate | None = None
    """What happens to a longer input. `tail`, as published: its end is cut off, which is an error where the mask or,
    for causal models, the end of the template would go. `head`: its beginning is cut off, and with it demonstrations
    that stand in front. `sentence`: the longest sentence loses tokens at its end, and the template stays whole.
    `error`: nothing is cut. By default, of templates in LM-BFF's language, `sentence` for causal models, whose template
    ends with the question, and `tail` for the others, or where there are demonstrations the end that they stand at;
    `head` for text forms, which know no sentences. Records count the examples that were cut."""
    templates: tuple[str, ...] = ()
    """Names or texts of several templates, as `template`: scores are averaged over them. Not with `template`."""
    demonstrations: AnyDemonstrations | None = None
    """Labelled examples shown to the model together with the one that it is asked about; none unless given."""
    calibration: Calibration | None = None
    """Whether scores are corrected for what the answers score where nothing is asked. `surface-form`: behind the
    template's own calibration prompt, and the same demonstrations; `contextual`: with `N/A`, an empty text and `[MASK]`
    in the place of every text. Predictions alone are corrected: training has the scores as they are."""
    calibration_demonstrations: bool = True
    """Whether the prompt that asks about nothing has the demonstrations as well (MeZO: `icl_sfc`; `false`: `sfc`)."""
    begin: str | None = None
    """A token that inputs of text forms begin with, instead of what the tokenizer puts there: MeZO begins those of OPT
    with `<s>`."""
    score: Literal["mean", "sum"] | None = None
    """Whether a candidate's score is the mean or the sum of the log-probabilities of its tokens. By default the mean,
    and the sum with `surface-form` calibration, as published."""

    @property
    def sums(self) -> bool:
        """Whether scores are sums over tokens."""
        return self.score == "sum" or (self.score is None and self.calibration == "surface-form")
