"""Rules that make fields which published files do not hold as text: dates of DROP, entities of ReCoRD, spans of WSC.

A rule is given a record and the split it is of, and returns further fields of the row; None leaves the row out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shoestring.registry import Registry

Fields = Mapping[str, Any]
Rule = Callable[[Fields, str], Fields | None]

DERIVED: Registry[Rule] = Registry("rule to derive fields by", package=None)


@DERIVED.register("drop")
def drop_answers(record: Fields, split: str) -> Fields | None:
    """Return `answers`: those of DROP as texts.

    A number is itself, a date its day, month and year with spaces between them, and each span is an answer of its own.
    In train there is one answer to a question; elsewhere the validated ones stand in its place, where there are any.
    A row with an answer that is several of these at once, or without any answer, is left out.

    Source: the loader of the hub's ucinlp/drop, which leaves out 9 rows of train and 1 of dev.
    """
    given = [record["answer"]] if split == "train" else record.get("validated_answers") or [record["answer"]]
    answers: list[str] = []
    for answer in given:
        date = " ".join([answer["date"].get(part, "") for part in ("day", "month", "year")]).strip()
        kinds = [[text for text in (answer["number"], date) if text], answer["spans"]]
        if len(kinds[0]) + bool(kinds[1]) > 1:
            return None
        answers += [*kinds[0], *kinds[1]]
    return {"answers": answers} if answers else None


@DERIVED.register("record")
def record_entities(record: Fields, split: str) -> Fields:
    """Return `candidates` and `golds`: the entities of ReCoRD's passage and the right ones, each once and sorted.

    Source: the loader of the hub's super_glue, version 1.0.2 (entities by characters `start` to `end`, inclusive).
    """
    passage = record["passage"]
    entities = {passage["text"][entity["start"] : entity["end"] + 1] for entity in passage["entities"]}
    return {"candidates": sorted(entities), "golds": sorted({answer["text"] for answer in record["answers"]})}


@DERIVED.register("wsc-fixed")
def wsc_spans(record: Fields, split: str) -> Fields:
    """Return `span1_text` and `span2_text` as they stand in WSC's text: in its capitals, without full stop or newline.

    Source: the hub's super_glue, configuration wsc.fixed; spans that are no part of the text even so stay as they are.
    """
    return {f"span{number}_text": _span(record["text"], record["target"], number) for number in (1, 2)}


def _span(text: str, target: Fields, number: int) -> str:
    span: str = target[f"span{number}_text"]
    if span in text:
        return span
    first = text.split()[target[f"span{number}_index"]][0]
    case = str.lower if first.islower() else str.upper
    fixed = (case(span[0]) + span[1:]).rstrip(".").replace("\n", " ")
    return fixed if fixed in text else span
