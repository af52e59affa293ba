from __future__ import annotations

import pytest
import torch

from shoestring.bench import timing
from shoestring.bench.timing import race, threads, timed
from shoestring.progress import Silent

CPU = torch.device("cpu")


class Racer:
    """Tells its steps to `log`, and takes `pace` ticks of the clock for each."""

    def __init__(self, name: str, pace: float, log: list[str], clock: list[float], cycle: int = 1) -> None:
        self.name, self.pace, self.log, self.clock, self.cycle = name, pace, log, clock, cycle
        log.append(f"{name} starts")

    def step(self) -> None:
        self.log.append(f"{self.name} steps")
        self.clock[0] += self.pace

    def finish(self) -> None:
        self.log.append(f"{self.name} finishes")
        self.clock[0] += 100


def test_contestants_take_turns_and_one_step_each_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    starts = [lambda: Racer("a", 2, log, clock), lambda: Racer("b", 3, log, clock)]
    with Silent().bar("race", 6) as bar:
        found = race(starts, 3, CPU, bar)
    turns = [f"{name} {what}" for name in "ab" for what in ("starts", "steps", "steps", "finishes")]
    assert log == turns * 3
    assert [time.seconds for time in found] == [(2.0,) * 3, (3.0,) * 3]
    assert [time.median for time in found] == [2.0, 3.0]


def test_where_an_engine_puts_steps_together_the_mean_of_its_cycle_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    class Folding(Racer):
        def step(self) -> None:
            super().step()
            self.clock[0] += 40 * (len(self.log) % 4 == 0)

    with Silent().bar("race", 1) as bar:
        found = race([lambda: Folding("a", 2, log, clock, cycle=4)], 1, CPU, bar)
    assert log == ["a starts", *["a steps"] * 5, "a finishes"]
    assert found[0].seconds == (12.0,)


def test_some_steps_of_a_turn_are_counted_while_they_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    class Slowing(Racer):
        def step(self) -> None:
            super().step()
            self.pace += 0.125

    starts = [lambda pace=pace: Slowing("a", pace, log, clock) for pace in (0.125, 0.25, 2)]
    with Silent().bar("race", 3) as bar:
        found = race(starts, 1, CPU, bar, most=3)
    assert log == [one for steps in (4, 4, 2) for one in ("a starts", *["a steps"] * steps, "a finishes")]
    assert [time.seconds for time in found] == [(0.375,), (0.5,), (2.125,)]


def test_median_and_quartiles_are_those_of_the_seconds() -> None:
    time = timed([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (time.median, time.iqr) == (3.0, 2.0)
    assert timed([2.0]).iqr == 0


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
