"""One example asked in several ways: draws of demonstrations, templates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shoestring.prompts.encoding import EncodedPrompt, Encoder, Redraws
from shoestring.seeds import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shoestring.data.example import Example


class Ensemble:
    """Asks every example with each of n templates; scores are averaged.

    Where each template is asked in several draws of demonstrations, draw j of all has template j mod n. In training
    each use of an example takes one template at random.

    Args:
        ways: the encoder of each template.

    Attributes:
        ways: as given.

    Source: Gao et al. 2021 (LM-BFF), section 5.2; princeton-nlp/LM-BFF src/dataset.py, `template_list`.

    Differs: there every draw has the last template, and training ends with a NameError, since both read the variable of
        a loop that is over (src/dataset.py:452, :518); here draws take turns, as the comment there says.
    """

    def __init__(self, ways: Sequence[Encoder]) -> None:
        self.ways = tuple(ways)
        self.task = self.ways[0].task
        self.limit = min(way.limit for way in self.ways)

    def encode(self, example: Example) -> EncodedPrompt:
        """Return the model input of an example with the first template; the others are its variants.

        Raises:
            ShoestringError: what the encoder of a template raises.
        """
        return _in_turn([way.encode(example) for way in self.ways])

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order.

        Raises:
            ShoestringError: what the encoder of a template raises.
        """
        wanted = list(examples)
        found = [way.encode_all(wanted) for way in self.ways]
        return [_in_turn(prompts) for prompts in zip(*found, strict=True)]

    def text(self, example: Example) -> str:
        """Return the input with the first template as text, before anything is cut.

        Raises:
            ShoestringError: what the encoder of a template raises.
        """
        return self.ways[0].text(example)

    def redraw(self, prompt: EncodedPrompt, seed: int) -> EncodedPrompt:
        """Return a training example with one template, a function of `seed`, and demonstrations drawn anew.

        Raises:
            ShoestringError: what the encoder of a template raises.
        """
        number = int(numpy_stream(seed, "template").integers(len(self.ways)))
        way, asked = self.ways[number], (prompt, *prompt.variants)[number]
        return way.redraw(asked, seed) if isinstance(way, Redraws) else replace(asked, variants=())


def together(prompts: Sequence[EncodedPrompt]) -> EncodedPrompt:
    """Return one example asked in several ways: the first, with the others as its variants."""
    first, *others = prompts
    cut = max(prompt.truncated for prompt in prompts)
    return replace(first, truncated=cut, variants=tuple(others)) if others else first


def _in_turn(prompts: Sequence[EncodedPrompt]) -> EncodedPrompt:
    """Return one example with all its draws for each template, templates taking turns."""
    draws = [(replace(prompt, variants=()), *prompt.variants) for prompt in prompts]
    return together([asked for turn in zip(*draws, strict=True) for asked in turn])
