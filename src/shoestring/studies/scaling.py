"""How many weights it takes: for each tuning of each model, the fewest that beat chance or reach full fine-tuning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shoestring.errors import RunFolderError
from shoestring.runs.record import Record
from shoestring.runs.words import shown, title
from shoestring.tables.arranging import Arrangement, Layout, arrange, best
from shoestring.tables.cells import Cell, Column, TableData
from shoestring.tables.grouping import MODEL, NOTHING, TASK, Mark
from shoestring.tables.places import Place
from shoestring.tables.views import mean_and_spread
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import TEST

BY = (TASK, "method.kind", "tuning.kind")
"""What tells rows apart: so the sizes of a tuning (budget, r, length) are points of one line."""
RULE = (
    "fewest trained weights, of those tried, at which the mean over seeds is more than a standard deviation above "
    "chance, or no more than one (of its own) below full fine-tuning; of runs with as many weights, each seed counts "
    "the one best on dev"
)


@dataclass(frozen=True)
class Size:
    """A number of trained weights, and what they came to: mean and population deviation over so many seeds.

    One seed has no deviation; for thresholds that is 0.
    """

    weights: int
    mean: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Reached:
    """One tuning of one model on one task.

    Attributes:
        row: task, method and tuning.
        column: the model.
        total: weights of the model.
        sizes: all that was tried, from few weights to many.
        chance: value of a guess, and the fewest weights that beat it; None where that is not known, or none did.
        full: value of full fine-tuning with its deviation, and the fewest weights that reach it, likewise.
    """

    row: Mark
    column: Place
    total: int
    sizes: tuple[Size, ...]
    chance: tuple[float | None, int | None]
    full: tuple[tuple[float, float | None] | None, int | None]


def layout_of() -> Layout:
    """Return the layout in which thresholds are looked for, and drawn: models side by side."""
    return Layout(by=BY, columns=MODEL)


def thresholds(found: Arrangement) -> list[Reached]:
    """Return what it took in every cell of `layout_of` whose runs trained something, full fine-tuning left out.

    A threshold is reached at the fewest weights of which this holds, with mean m and population standard deviation s
    over seeds, each with the trial of that many weights that is best on dev:

        chance:  m - s > 1 / C                  accuracy over C labels
        full:    m >= m_full - s_full           of the same task, model, method and further setting

    or the mirror image of the latter, where a metric is better lower.

    Source: Su et al. 2023 (PET scaling), whose thresholds are "exceeds random guess" and "comparable to
        full-parameter fine-tuning"; that a standard deviation decides is ours.
    """
    reached: list[Reached] = []
    for mark in found.marks:
        for place in found.places:
            records = [run for trials in found.trials.get((mark, place), {}).values() for run in trials]
            if not records or not any(run.trained_weights for run in records) or _tuning(records) == "full":
                continue
            sizes = sizes_of(found, mark, place)
            guess, full = chance_of(records[0], place.metric), _full(found, mark, place)
            sign = 1 if METRICS.get(place.metric).higher_is_better else -1
            beat = [size.weights for size in sizes if guess is not None and size.mean - (size.sd or 0.0) > guess]
            same = [size.weights for size in sizes if full and sign * size.mean >= sign * full[0] - (full[1] or 0.0)]
            chance = (guess, min(beat, default=None))
            total = min(run.weights.total for run in records if run.weights is not None)
            reached.append(Reached(mark, place, total, sizes, chance, (full, min(same, default=None))))
    return reached


def sizes_of(found: Arrangement, mark: Mark, place: Place) -> tuple[Size, ...]:
    """Return each number of weights that a cell's runs trained, with what it came to on test."""
    groups: dict[int, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for seed, trials in found.trials.get((mark, place), {}).items():
        for run in trials:
            groups[run.trained_weights][seed].append(run)
    sizes: list[Size] = []
    for weights, seeds in sorted(groups.items()):
        values = [best(trials, place.metric).metrics[place.test][place.metric] for trials in seeds.values()]
        mean, spread, count = mean_and_spread(values)
        sizes.append(Size(weights, mean, spread, count))
    return tuple(sizes)


def chance_of(record: Record, metric: str) -> float | None:
    """Return the accuracy of a guess among a task's labels; None of other metrics and tasks."""
    task = record.config["task"]
    known = metric == "accuracy" and task.get("kind", "classification") == "classification"
    return 1 / len(task["labels"]) if known and task["labels"] else None


def scaling_table(records: Iterable[Record]) -> TableData:
    """Return thresholds as a table: a row for each model and tuning.

    Raises:
        RunFolderError: if no run has finished, or none trained a part of a model's weights.
    """
    found = arrange(records, layout_of())
    reached = thresholds(found)
    if not reached:
        raise RunFolderError("none of the runs trained a part of a model's weights: there is nothing to compare")
    heads = ("task", "model", "method", "tuning", *found.labels.heads[len(BY) :])
    columns = [Column(head, "left", (head,)) for head in heads]
    columns += [
        Column("weights tried", "right", ("fewest weights", "most weights")),
        Column("best", "right", ("best mean", "best sd", "weights of best")),
        Column("beats chance", "right", ("chance", "weights to beat chance")),
        Column("reaches full", "right", ("full mean", "full sd", "weights to reach full")),
    ]
    # Small models first, the totals of whose tunings differ by what these insert.
    least = {
        one.column.mark: min(other.total for other in reached if other.column.mark == one.column.mark)
        for one in reached
    }
    ordered = sorted(
        reached, key=lambda one: (one.row.order[0], least[one.column.mark], one.column.order, one.row.order)
    )
    rows = tuple(_row(one) for one in ordered)
    metrics = sorted({one.column.metric for one in reached})
    # Sizes are what rows show, and not chosen among.
    notes = [note for note in found.notes if not note.startswith("chosen on dev")]
    return TableData(
        tuple(columns),
        rows,
        f"{' and '.join(map(title, metrics))} x 100 on test",
        (RULE, *_seed_notes(found, ordered), *notes),
    )


def _seed_notes(found: Arrangement, reached: Sequence[Reached]) -> list[str]:
    """Name the sizes that rest on fewer seeds than their row has, and say what one seed alone comes to."""
    notes: list[str] = []
    for one in reached:
        seeds = len(found.trials[one.row, one.column])
        if few := [f"{size.weights:,} weights ({size.seeds})" for size in one.sizes if size.seeds < seeds]:
            notes.append(f"fewer seeds than {seeds}: {one.row.name}, {one.column.head(metric=False)}: {', '.join(few)}")
    if any(size.sd is None for one in reached for size in one.sizes) or any(
        one.full[0] is not None and one.full[0][1] is None for one in reached
    ):
        notes.append("one seed has no deviation: where it is alone, its number decides")
    return notes


def _row(one: Reached) -> tuple[Cell, ...]:
    task, *rest = one.row.texts
    if one.column.test != TEST:
        task = f"{task} {one.column.test}"
    metric, texts = one.column.metric, (task, one.column.mark.name.removeprefix("name="), *rest)
    sign = 1 if METRICS.get(metric).higher_is_better else -1
    top = max(one.sizes, key=lambda size: sign * size.mean)
    spread = NOTHING if top.sd is None else shown(metric, top.sd)
    first, last = one.sizes[0].weights, one.sizes[-1].weights
    (guess, beat), (full, same) = one.chance, one.full
    return (
        *(Cell(text, (text,)) for text in texts),
        Cell(f"{first:,}" if first == last else f"{first:,} to {last:,}", (first, last)),
        Cell(f"{shown(metric, top.mean)} ({spread})", (top.mean, top.sd, top.weights)),
        Cell(_number(beat, known=guess is not None), (guess, beat)),
        Cell(_number(same, known=full is not None), (*(full or (None, None)), same)),
    )


def _number(weights: int | None, *, known: bool) -> str:
    return f"{weights:,}" if weights is not None else "none" if known else NOTHING


def _full(found: Arrangement, mark: Mark, place: Place) -> tuple[float, float | None] | None:
    for other in found.marks:
        picked = found.chosen.get((other, place), {})
        records = list(picked.values())
        if records and _but_tuning(other) == _but_tuning(mark) and _tuning(records) == "full":
            mean, spread, _ = mean_and_spread([run.metrics[place.test][place.metric] for run in records])
            return mean, spread
    return None


def _but_tuning(mark: Mark) -> tuple[str, ...]:
    """Return what a row is but for its tuning: task, method, and any other setting that tells rows apart."""
    return mark.texts[:2] + mark.texts[3:]


def _tuning(records: Sequence[Record]) -> str:
    return str(records[0].config["tuning"]["kind"])
