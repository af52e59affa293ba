"""What a tokenizer does with text on its own and in context, found out by behaviour, not by class name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.template import SpecialName

# Characters to stand in front of a text: rare ones first, since they merge with nothing.
_ANCHORS = ("\x01", "\n", ")", "9", "a")
_PROBES = ("!", ",", ".", "a", "the")


class Codec:
    """Text to token ids, without special tokens.

    SentencePiece-style tokenizers put a space in front of every text they are given. Encoding a template piece by piece
    would then scatter spaces over the prompt, so the pieces after the first are encoded behind an anchor character,
    whose own tokens are taken off again. Byte-level BPE and WordPiece do no such thing and encode each piece alone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # Of a tokenizer that was loaded, where from; its class says nothing to a user.
        self.name = f"the tokenizer of {tokenizer.name_or_path}" if tokenizer.name_or_path else "the tokenizer"
        self.unknown = cast("int | None", tokenizer.unk_token_id)
        self._anchors = self._working_anchors() if self._adds_space() else ()

    @property
    def adds_space(self) -> bool:
        """Whether the tokenizer puts a space in front of a text that has none."""
        return bool(self._anchors)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text that begins an input (or stands alone)."""
        # verbose=False: how long an input may be is checked by us, with the example's name.
        return cast("list[int]", self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def continuation(self, text: str) -> list[int]:
        """Return the ids of a text that continues an input."""
        if not text:
            return []
        for anchor, ids in self._anchors:
            longer = self.encode(anchor + text)
            if longer[: len(ids)] == ids:
                return longer[len(ids) :]
        return self.encode(text)

    def literal(self, text: str, *, first: bool) -> list[int]:
        """Return the ids of a template's literal text; a single character is looked up as it stands.

        Source: princeton-nlp/LM-BFF src/dataset.py (the look-up keeps T5 from adding a space).

        Differs: a character that is not in the vocabulary as it stands (a line break, a capital in an uncased one) is
            encoded instead of becoming the unknown token, and so is one beyond ASCII, since byte-level vocabularies
            list raw bytes under such names.
        """
        if len(text) == 1 and text.isascii():
            found = self.lookup(text)
            if found is not None:
                return [found]
        return self.encode(text) if first else self.continuation(text)

    def lookup(self, token: str) -> int | None:
        """Return the id of a vocabulary entry, or None if there is none."""
        found = cast("int | None", self.tokenizer.convert_tokens_to_ids(token))
        return None if found == self.unknown else found

    def tokens(self, ids: list[int]) -> list[str]:
        """Return the vocabulary entries of ids."""
        return cast("list[str]", self.tokenizer.convert_ids_to_tokens(ids))

    def special(self, name: SpecialName) -> int | None:
        """Return the id of a special token, or None where the tokenizer's inputs go without it.

        A missing separator is the end token. A begin token that doubles as the end token is left out unless the
        tokenizer itself begins its inputs with it (GPT-2 does not, OPT does).

        Source: princeton-nlp/MeZO medium_models/run.py (separator) and src/dataset.py (begin token).

        Differs: OPT's begin token is the tokenizer's own, `</s>`; MeZO sets it to id 0, `<s>`.
        """
        ids = self.tokenizer
        if name in ("sep", "sep+"):
            found = ids.eos_token_id if ids.sep_token_id is None else ids.sep_token_id
        elif name == "bos":
            found = ids.bos_token_id
            if found is not None and found == ids.eos_token_id and self._opening() != found:
                found = None
        else:
            found = {"cls": ids.cls_token_id, "eos": ids.eos_token_id, "mask": ids.mask_token_id}[name]
        return cast("int | None", found)

    @property
    def has_cls_and_sep(self) -> bool:
        """Whether inputs have the BERT form, `[CLS] a [SEP]`."""
        return self.tokenizer.cls_token_id is not None and self.tokenizer.sep_token_id is not None

    @property
    def max_tokens(self) -> int | None:
        """The tokenizer's own idea of the model's longest input; None where it has none."""
        longest = int(self.tokenizer.model_max_length)
        return longest if longest < 10**9 else None

    def _opening(self) -> int | None:
        ids = cast("list[int]", self.tokenizer.encode("", verbose=False))
        return ids[0] if ids else None

    def _adds_space(self) -> bool:
        for probe in _PROBES:
            # A probe outside the vocabulary shows as unknown or as bytes and says nothing.
            shown = "".join(self.tokens(self.encode(probe)))
            if shown.endswith(probe):
                return shown != probe
        return False

    def _working_anchors(self) -> tuple[tuple[str, list[int]], ...]:
        working: list[tuple[str, list[int]]] = []
        for anchor in _ANCHORS:
            ids = self.encode(anchor)
            probes = [self.encode(anchor + probe) for probe in ("!", " the")]
            if ids and self.unknown not in ids and all(probe[: len(ids)] == ids for probe in probes):
                working.append((anchor, ids))
        return tuple(working)
