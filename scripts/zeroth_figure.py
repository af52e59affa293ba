"""Run thirteen zeroth-order optimizers on the demo's entailment task; draw accuracy against forward passes.

pip install shoestring[docs]; python scripts/zeroth_figure.py [--passes 1200] [--jobs 2] [--out runs/zeroth.json]

Writes docs/images/zeroth-order.svg and prints the table of docs/zeroth-order.md. An optimizer's learning rate is the
one of its three that ends with the lowest loss on dev with the first seed; test has no say in it. Curves that exist in
OUT are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from shoestring.data.splits import draw
from shoestring.demo.assets import ensure
from shoestring.demo.show import demo_table
from shoestring.errors import OptimizerError
from shoestring.files import write_json
from shoestring.methods.base import METHODS
from shoestring.models.evaluation import evaluate
from shoestring.models.prompted import PromptedModel
from shoestring.runs.config import load_config
from shoestring.runs.run import Prompts, prepare
from shoestring.seeds import numpy_stream
from shoestring.training.objective import OBJECTIVES
from shoestring.zeroth.closures import PerExample

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (13, 21, 42)
BATCH, EVALUATIONS = 32, 12
# Name in the figure -> method, its settings, and the middle one of three learning rates, a factor of 3 apart.
CONTESTANTS: dict[str, tuple[str, dict[str, Any], float]] = {
    "MeZO": ("mezo", {}, 5e-4),
    "MeZO, 8 one-sided": ("mezo", {"samples": 8, "sides": 1}, 1e-3),
    "FZOO": ("fzoo", {"eps": 1e-3}, 3e-3),
    "HiZOO": ("hizoo", {"smoothing": 1e-6}, 5e-4),
    "MEAZO": ("meazo", {}, 3e-3),
    "LOZO": ("lozo", {"rank": 4}, 5e-4 / 3),
    "SubZero": ("subzero", {"rank": 16, "period": 200}, 5e-4),
    "ZO-Adam": ("zo-adam", {"betas": (0.9, 0.99)}, 1.5e-3),
    "Sparse-MeZO": ("sparse-mezo", {}, 3e-3),
    "evolution": ("evolution", {"samples": 16}, 9e-3),
    "forward gradient": ("forward-gradient", {}, 5e-4 / 3),
    "one-point": ("one-point", {}, 2e-5 / 3),
    "variance-modified": ("variance-modified-mezo", {}, 5e-4 / 3),
}
HIGHLIGHTED = ("MEAZO", "evolution", "SubZero", "ZO-Adam", "forward gradient", "MeZO", "HiZOO", "FZOO")


class Trial(NamedTuple):
    """One curve to be drawn."""

    name: str
    lr: float
    seed: int
    passes: int


def main() -> None:
    """Run what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description="Draw accuracy against forward passes on the demo.")
    parser.add_argument("--passes", type=int, default=1200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/zeroth.json"))
    given = parser.parse_args()
    ensure()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    rates = {name: [middle * factor for factor in (1 / 3, 1.0, 3.0)] for name, (_, _, middle) in CONTESTANTS.items()}
    make([Trial(name, lr, SEEDS[0], given.passes) for name in rates for lr in rates[name]], known, given)
    best = {name: min(rates[name], key=lambda lr: final_loss(known, name, lr, given.passes)) for name in rates}
    trials = {name: [Trial(name, best[name], seed, given.passes) for seed in SEEDS] for name in rates}
    make([trial for some in trials.values() for trial in some], known, given)
    chosen = {name: [known[key(trial)] for trial in some] for name, some in trials.items()}
    draw_figure(chosen, ROOT / "docs" / "images" / "zeroth-order.svg")
    print("\n".join(table(chosen)))  # noqa: T201


def make(trials: list[Trial], known: dict[str, Any], given: argparse.Namespace) -> None:
    """Make the curves that are not known yet."""
    missing = [trial for trial in trials if key(trial) not in known]
    with ProcessPoolExecutor(given.jobs) as pool:
        for trial, curve in zip(missing, pool.map(run, missing), strict=True):
            known[key(trial)] = curve
            write_json(given.out, known)
            print(key(trial), f"{curve['dev'][-1]:.3f}", f"{curve['test'][-1]:.1f}", flush=True)  # noqa: T201


def final_loss(known: dict[str, Any], name: str, lr: float, passes: int) -> float:
    """Return the loss on dev that the first seed ends with; infinite if it did not come to the end."""
    curve = known[key(Trial(name, lr, SEEDS[0], passes))]
    return curve["dev"][-1] if curve["passes"][-1] >= passes else math.inf


def key(trial: Trial) -> str:
    """Return the name of a curve in the file of results."""
    _, settings, _ = CONTESTANTS[trial.name]
    return f"{trial.name} | {json.dumps(settings)} | {trial.lr:.3g} | {trial.seed} | {trial.passes}"


def run(trial: Trial) -> dict[str, Any]:
    """Train once; return passes, dev losses and test accuracies along the way."""
    torch.set_num_threads(1)
    kind, settings, _ = CONTESTANTS[trial.name]
    assets = ensure()
    method = METHODS.get(kind)(lr=trial.lr, batch_size=BATCH, **settings)
    place = demo_table(assets, "masked", assets.tasks["demo-entailment"], Path("runs"))
    config = load_config(None, table={**place, "method": {"kind": kind}, "seed": trial.seed})
    ready = prepare(config, draw(config.task, config.data, config.seed))
    subject, train = ready.subject, ready.prompts["train"]
    optimizer = method.optimizer(subject.model.eval(), config.seed)
    objective, stream = OBJECTIVES.get("cross-entropy"), numpy_stream(trial.seed, "batches")
    made, due, curve = 0, 0, {"passes": [], "dev": [], "test": [], "lr": trial.lr}
    while True:
        if made >= due:
            optimizer.finalize()
            note(curve, made, subject, ready.prompts)
            due += trial.passes // EVALUATIONS
            if made >= trial.passes:
                return curve
        batch = subject.collate([train[index] for index in stream.choice(len(train), BATCH, replace=False)])
        try:
            optimizer.step(PerExample(lambda piece: objective.losses(subject, piece), [batch]))
        except OptimizerError:  # The loss is not finite any more.
            return curve
        made += optimizer.last_passes


def note(curve: dict[str, Any], made: int, subject: PromptedModel, prompts: Prompts) -> None:
    """Add loss on dev and accuracy on test to a curve."""
    found = {
        part: evaluate(subject.task, prompts[part], subject.predict(prompts[part], 64)) for part in ("dev", "test")
    }
    curve["passes"].append(made)
    curve["dev"].append(found["dev"]["loss"])
    curve["test"].append(100 * found["test"]["accuracy"])


def table(chosen: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the rows of the page's table."""
    rows = ["| optimizer | after a quarter | at the end | learning rate |", "| --- | ---: | ---: | ---: |"]
    for name, curves in chosen.items():
        quarter = [curve["test"][min(len(curve["test"]) - 1, EVALUATIONS // 4)] for curve in curves]
        end = [curve["test"][-1] for curve in curves]
        cells = [f"{statistics.fmean(values):.1f} ({statistics.pstdev(values):.1f})" for values in (quarter, end)]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} | {curves[0]['lr']:.2g} |")
    return rows


def draw_figure(chosen: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw mean test accuracy against forward passes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shoestring"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    colours = (f"C{number}" for number in range(10) if number != 7)  # C7 is the grey of the others
    for name, curves in sorted(chosen.items(), key=lambda item: item[0] in HIGHLIGHTED):
        length = min(len(curve["test"]) for curve in curves)
        means = [statistics.fmean(curve["test"][at] for curve in curves) for at in range(length)]
        marked = name in HIGHLIGHTED
        style = (
            {"color": next(colours), "label": name, "linewidth": 1.8} if marked else {"color": "0.8", "linewidth": 1}
        )
        axes.plot(curves[0]["passes"][:length], means, **style)
    axes.plot([], [], color="0.8", label="the others")
    axes.set_xlabel(f"forward passes of {BATCH} examples")
    axes.set_ylabel("accuracy on test, mean of three seeds (%)")
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
