"""Examples with their demonstrations to model inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shoestring.prompts.encoding import EncodedPrompt, PromptEncoder
from shoestring.prompts.ensemble import together
from shoestring.seeds import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shoestring.data.example import Example
    from shoestring.prompts.demonstrations.drawing import Drawer

_STREAM = "demonstrations"


class DemonstrationEncoder:
    """Encodes examples behind, or in front of, demonstrations that are drawn for each of them.

    Draw s of an example is a function of the pool's seed, the example's uid and s, whatever else is encoded and when.

    Args:
        asked: the encoder of the template, which takes demonstrations.
        drawer: draws them.
    """

    def __init__(self, asked: PromptEncoder, drawer: Drawer) -> None:
        self.asked, self.task, self.limit = asked, asked.task, asked.limit
        self._drawer = drawer
        self._examples = {example.uid: example for example in drawer.pool.examples}

    def draws(self, example: Example) -> list[tuple[Example, ...]]:
        """Return the demonstrations of each draw for an example.

        Raises:
            DataError: if there are too few.
        """
        seed, draws = self._drawer.pool.seed, range(self._drawer.settings.repeats(self.task))
        return self._drawer.drawn(example, (numpy_stream(seed, _STREAM, example.uid, draw) for draw in draws))

    def encode(self, example: Example) -> EncodedPrompt:
        """Return the model input of an example with its first draw of demonstrations; the others are its variants.

        Raises:
            DataError: if there are too few examples to draw from, or one does not suit the task.
            PromptTooLongError: if example and demonstrations do not fit.
        """
        return together([self.asked.encode(example, shown) for shown in self.draws(example)])

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order.

        Raises:
            DataError: as `encode`.
            PromptTooLongError: as `encode`.
        """
        wanted = list(examples)
        self._drawer.look_at(wanted)
        return [self.encode(example) for example in wanted]

    def text(self, example: Example) -> str:
        """Return the input with the first draw of demonstrations as text, before anything is cut.

        Raises:
            DataError: as `encode`.
        """
        return self.asked.text(example, self.draws(example)[0])

    def redraw(self, prompt: EncodedPrompt, seed: int) -> EncodedPrompt:
        """Return the input of a training example with other demonstrations: one draw, a function of `seed`.

        An example that is not one of the pool's keeps the demonstrations it has.

        Raises:
            DataError: as `encode`.
            PromptTooLongError: as `encode`.
        """
        example = self._examples.get(prompt.uid)
        if example is None:
            return replace(prompt, variants=())
        (shown,) = self._drawer.drawn(example, [numpy_stream(seed, _STREAM)])
        return self.asked.encode(example, shown)
