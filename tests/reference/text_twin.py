"""A slow, obvious twin of the encoding of whole texts, from the published rules (research/prompts.md, 5.1 and 5.2).

It knows nothing of the package's templates or encoder: prompts are put together by hand from the fields of an example,
and the tokenizer is asked about one text at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field


def sst2(x):
    return f"{x['sentence'].strip()} It was", lambda word: f" {word}"


def rte(x):
    text = f'{x["premise"]}\nDoes this mean that "{x["hypothesis"]}" is true? Yes or No?\n'
    return text, lambda word: word


def cb(x):
    text = f'Suppose {x["premise"]} Can we infer that "{x["hypothesis"]}"? Yes, No, or Maybe?\n'
    return text, lambda word: word


def boolq(end, space):
    def render(x):
        question = x["question"]
        if not question.endswith("?"):
            question = question + "?"
        question = question[0].upper() + question[1:]
        return f"{x['passage']} {question}{end}", lambda word: space + word

    return render


def wsc(x):
    asked = f'does the pronoun "{x["span2_text"].lower()}" refer to {x["span1_text"]}? Yes or No?'
    return f"{x['text']}\nIn the previous sentence, {asked}\n", lambda word: word


def wic(x):
    asked = f'Does the word "{x["word"]}" have the same meaning in these two sentences? Yes, No?'
    return f"{asked}\n{x['sentence1']}\n{x['sentence2']}\n", lambda word: word


def multirc(x):
    answer = f'I found this answer "{x["answer"]}". Is that correct? Yes or No?'
    return f"{x['paragraph']}\nQuestion: {x['question']}\n{answer}\n", lambda word: word


def copa(x):
    premise = x["premise"].rstrip()
    if premise.endswith("."):
        premise = premise[:-1]
    conjunction = " so " if x["question"] == "effect" else " because "

    def answer(choice):
        words = choice.split(" ")
        if words[0] != "I":
            words[0] = words[0].lower()
        return " ".join(words)

    # What is asked ends in the conjunction's own space, which stripping takes off.
    return premise + conjunction, answer


def record(x):
    passage = x["passage"].replace("@highlight\n", "- ")
    return f"{passage}\n-", lambda name: f" {x['query'].replace('@placeholder', name)}"


def record_question(x):
    asked = f'{x["passage"]}\n{x["query"]}\nQuestion: what is the "@placeholder"\nAnswer:'
    return asked, lambda name: f" {name}"


def squad(x):
    text = f"Title: {x['title']}\nContext: {x['context']}\nQuestion: {x['question'].strip()}\nAnswer:"
    return text, lambda gold: f" {gold}\n"


def drop(x):
    passage = x["passage"] if "passage" in x else x["context"]
    return f"Passage: {passage}\nQuestion: {x['question'].strip()}\nAnswer:", lambda gold: f" {gold}\n"


def nothing(x):
    return "", lambda word: word


def sst2_nothing(x):
    return " It was", lambda word: f" {word}"


def copa_nothing(x):
    return ("so" if x["question"] == "effect" else "because"), lambda choice: f" {copa(x)[1](choice)}"


def record_nothing(x):
    return "-", record(x)[1]


def record_question_nothing(x):
    return "Answer:", lambda name: f" {name}"


# Task -> template -> (what is asked, what asks about nothing), each giving a prompt and what answers become behind it.
TEMPLATES = {
    "mezo/SST2": [("mezo", sst2, sst2_nothing)],
    "mezo/RTE": [("mezo", rte, nothing)],
    "mezo/CB": [("mezo", cb, nothing)],
    "mezo/BoolQ": [
        ("v2", boolq("\n", ""), nothing),
        ("v0", boolq("", " "), nothing),
        ("v1", boolq("\\n\\n", ""), nothing),
    ],
    "mezo/WSC": [("mezo", wsc, nothing)],
    "mezo/WIC": [("mezo", wic, nothing)],
    "mezo/MultiRC": [("mezo", multirc, nothing)],
    "mezo/Copa": [("mezo", copa, copa_nothing)],
    "mezo/ReCoRD": [("gpt3", record, record_nothing), ("question", record_question, record_question_nothing)],
    "mezo/SQuAD": [("mezo", squad, None)],
    "mezo/DROP": [("mezo", drop, None)],
}


@dataclass
class Twin:
    """Token ids of every candidate's whole input, and how many at their ends are scored."""

    encodings: list[list[int]] = field(default_factory=list)
    option_lens: list[int] = field(default_factory=list)


class Tokenizer:
    """What a tokenizer does with whole texts: special tokens in front, none behind."""

    def __init__(self, tokenizer, opening):
        self.tokenizer, self.opening = tokenizer, list(opening)

    def encode(self, text):
        return self.opening + self.tokenizer.encode(text, add_special_tokens=False)

    def cut(self, encoding, longest):
        if len(encoding) <= longest:
            return encoding
        if self.opening:
            rest = encoding[1:]
            return encoding[0:1] + rest[len(rest) - (longest - 1) :]
        return encoding[len(encoding) - longest :]


def demonstrations(shown, separator):
    """Put demonstrations, given as (prompt, answer), together."""
    return separator.join([(prompt + answer).strip() for prompt, answer in shown]).strip()


def encode_candidates(tokenizer, longest, shown, separator, prompt, answers, *, alone=False):
    """Encode a prompt with each answer, behind demonstrations unless `alone`."""
    before = demonstrations(shown, separator)
    asked = prompt.strip(" ")
    wholes = [(prompt + answer).strip(" ") for answer in answers]
    twin = Twin()
    for whole in wholes:
        twin.option_lens.append(len(tokenizer.encode(whole)) - len(tokenizer.encode(asked)))
        final = whole if alone else (before + separator + whole).lstrip().strip(" ")
        twin.encodings.append(tokenizer.cut(tokenizer.encode(final), longest))
    return twin


def encode_question(tokenizer, longest, shown, separator, prompt, new_tokens):
    """Encode a prompt whose answer is to be written."""
    final = (demonstrations(shown, separator) + separator + prompt.strip(" ")).lstrip().strip(" ")
    return tokenizer.cut(tokenizer.encode(final), longest - new_tokens)


def encode_taught(tokenizer, longest, shown, separator, prompt, answer, new_tokens):
    """Encode a prompt with the answer to be learned."""
    whole = prompt + answer
    count = len(tokenizer.encode(whole)) - len(tokenizer.encode(prompt.strip(" ")))
    final = (demonstrations(shown, separator) + separator + whole).lstrip().strip(" ")
    return Twin([tokenizer.cut(tokenizer.encode(final), longest - new_tokens)], [count])
