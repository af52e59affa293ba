"""Sweeps of which no run could begin: better said once than by every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shoestring.data.sources import refuse_absent
from shoestring.errors import ShoestringError
from shoestring.models.loading import check_name
from shoestring.runs.config import RunConfig


def refuse_hopeless(configs: Sequence[RunConfig]) -> None:
    """Refuse to begin where the data or the model of every run is not there.

    Where it is so of some runs only, the others are made, and these fail.

    Raises:
        ShoestringError: what the first run would fail with.
    """
    known: dict[str, ShoestringError | None] = {}

    def problem_of(config: RunConfig) -> ShoestringError | None:
        checks: list[tuple[str, Callable[[], None]]] = [
            (f"data {source}", lambda source=source: refuse_absent(source))
            for source in (config.data.source, config.data.test_source)
            if source is not None
        ]
        checks.append((f"model {config.model.name} {config.model.revision}", lambda: check_name(config.model)))
        for key, check in checks:
            if key not in known:
                known[key] = _raised(check)
            if (problem := known[key]) is not None:
                return problem
        return None

    problems = [problem for config in configs if (problem := problem_of(config)) is not None]
    if problems and len(problems) == len(configs):
        problems[0].add_note(f"no run was begun: this, or the like, keeps each of {len(configs):,} from it")
        raise problems[0]


def _raised(check: Callable[[], None]) -> ShoestringError | None:
    try:
        check()
    except ShoestringError as error:
        return error
    return None
