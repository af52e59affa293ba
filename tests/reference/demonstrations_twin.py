"""A slow, obvious twin of demonstrations, written from the published rules alone (research/prompts.md, section 3).

Templates are transformed as strings, with `str.replace`, and handed to the twin of the encoding.
"""

from __future__ import annotations


def per_label(template: str, sentences: int, labels: int) -> str:
    """LM-BFF: the template, then one copy a label without its begin token."""
    copy = template.replace("*cls*", "")
    result = template
    for label in range(labels):
        part = copy
        for index in range(sentences):
            part = part.replace(f"_{index}*", f"_{sentences + sentences * label + index}*")
        result += part.replace("*mask*", f"*label_{label}*")
    return result


def gpt3(template: str, sentences: int, count: int, *, head: bool) -> str:
    """LM-BFF: copies behind the template, or put in front of it one after another."""
    copy = template.replace("*cls*", "")
    result = template
    for number in range(count):
        part = copy
        for index in range(sentences):
            part = part.replace(f"_{index}*", f"_{sentences + sentences * number + index}*")
        part = part.replace("*mask*", f"*labelx_{number}*")
        result = part + result if head else result + part
    return result


def mezo_gpt3(template: str, sentences: int, count: int, *, head: bool, separator: str = "\n\n\n") -> str:
    """MeZO: the same with a separator, one begin token in front, and the label word at the end of a causal copy."""
    copy = template.replace("*cls*", "").replace("*bos*", "")
    result = copy if head else template
    for number in range(count):
        part = copy
        for index in range(sentences):
            part = part.replace(f"_{index}*", f"_{sentences + sentences * number + index}*")
        masked = "*mask*" in part
        part = part.replace("*mask*", f"*labelx_{number}*") if masked else part + f"*labelx_{number}*"
        result = part + separator + result if head else result + separator + part
    return "*bos*" + result if head else result


def select_per_label(labels: list[int], order: list[int], count: int) -> list[int]:
    """Walk through a permutation and take the first example met of each label; return them by label."""
    taken: dict[int, int] = {}
    for row in order:
        if labels[row] not in taken:
            taken[labels[row]] = row
        if len(taken) == count:
            break
    return [taken[label] for label in range(count)]


def similar(vectors, query, labels: list[int], count: int, rate: float) -> list[int]:
    """Go through the candidates from the most similar on; keep of each label as many as it is allowed."""
    scored = []
    for row, vector in enumerate(vectors):
        dot = sum(float(a) * float(b) for a, b in zip(vector, query, strict=True))
        scored.append((row, round(dot, 6)))
    scored.sort(key=lambda pair: pair[1], reverse=True)
    limit = int(len(scored) // count * rate)
    kept: list[int] = []
    counts = [0] * count
    for row, _ in scored:
        if counts[labels[row]] < limit:
            counts[labels[row]] += 1
            kept.append(row)
    return kept


def polarity(value: float, threshold: float) -> int:
    return 0 if value <= threshold else 1
