from __future__ import annotations

import importlib.metadata
import json
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from shoestring.bench import timing, zeroth
from shoestring.bench.contestants import Contestant, OurStep, contestants, takes_directions
from shoestring.bench.goals import kernel_goals, step_goals
from shoestring.bench.matrix import matrix_seconds
from shoestring.bench.peaks import peak, peak_of
from shoestring.bench.settings import BenchSettings, KernelRow, Report, StepRow, Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.timing import lap, timed
from shoestring.bench.work import prepare
from shoestring.bench.zeroth import bench_zeroth
from shoestring.cli.bench_tables import steps_table
from shoestring.errors import ModelError, OptimizerError, UnknownNameError
from shoestring.models.tail import Tail, tails_read
from shoestring.products import QuickProducts
from shoestring.zeroth.base import OPTIMIZERS, Params
from shoestring.zeroth.closures import Closure
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.engines.replay import ReplayEngine
from shoestring.zeroth.optimizers.mezo import MeZO
from shoestring.zeroth.points import Points

CPU = torch.device("cpu")
SMALL = Workload(batch_size=2, tokens=8, candidates=2)
SETTINGS = BenchSettings(
    models=("tiny", "tiny-masked"),
    dtypes=("float32",),
    directions=("gaussian", "rademacher"),
    engines=("replay",),
    workload=SMALL,
    rounds=3,
    noise_elements=1000,
)


@pytest.fixture(scope="module")
def report(frozen_imports: None) -> Report:
    return bench_zeroth(SETTINGS, "the command")


def test_every_combination_that_was_asked_for_has_a_row_beside_floor_and_reference(report: Report) -> None:
    rows = [(row.model, row.step, row.directions, row.closure) for row in report.steps]
    ours = [("mezo", z, how) for z in ("gaussian", "rademacher") for how in ("per-example", "plain")]
    all_ = [("floor", None, None), ("reference", None, None), ("quick floor", None, None), *ours]
    assert rows == [(model, *one) for model in ("tiny", "tiny-masked") for one in all_]
    assert {row.engine for row in report.steps if row.step == "mezo"} == {"replay"}
    assert {row.forwards for row in report.steps} == {2.0}
    assert report.weights.keys() == {"tiny float32", "tiny-masked float32"}
    assert report.command == "the command"


def test_ratios_are_those_of_the_medians(report: Report) -> None:
    for model in ("tiny", "tiny-masked"):
        rows = [row for row in report.steps if row.model == model]
        floor, reference = (row.time.median for row in rows[:2] if row.time is not None)
        for row in rows:
            assert row.time is not None
            assert len(row.time.seconds) == 3
            assert row.time == timed(row.time.seconds)
            assert row.of_floor == row.of_forwards == row.time.median / floor
            assert row.speedup == reference / row.time.median


def test_the_quick_floor_is_made_our_way_and_the_floor_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, read = [], []

    class Noted(QuickProducts):
        def __enter__(self) -> Any:
            entered.append(self)
            return super().__enter__()

    def tails_noted(model: Any, tail: Tail) -> AbstractContextManager[None]:
        read.append(len(tail.modules))
        return tails_read(model, tail)

    monkeypatch.setattr("shoestring.bench.contestants.quick_products", Noted)
    monkeypatch.setattr("shoestring.bench.contestants.tails_read", tails_noted)
    work = prepare(shape_named("tiny"), "float32", SMALL, CPU)
    whole = len(work.tail.modules)
    assert whole > 3
    ours = Contestant("mezo", "gaussian", "paired", "plain")
    expected = ((Contestant("floor"), 0, [0, 0]), (Contestant("quick floor"), 2, [whole, whole]), (ours, 0, [whole]))
    for who, products, tails in expected:
        racer = who.start(work)
        entered.clear()
        read.clear()
        racer.step()
        assert len(entered) == products
        assert read == tails


def test_the_quick_floor_has_a_row_without_goals(report: Report) -> None:
    quick = [row for row in report.steps if row.step == "quick floor"]
    assert [(row.model, row.forwards, row.goals) for row in quick] == [("tiny", 2.0, ()), ("tiny-masked", 2.0, ())]
    assert all(row.of_floor is not None for row in quick)
    assert "quick floor: the floor as our steps make their passes" in " ".join(steps_table(report).notes)


def test_peaks_are_above_the_floors_as_a_share_of_the_weights(report: Report) -> None:
    rows = [row for row in report.steps if row.model == "tiny"]
    peaks = [row.peak for row in rows if row.peak is not None]
    assert len(peaks) == len(rows)
    weights = report.weights["tiny float32"]
    assert [row.peak_share for row in rows] == [(peak - peaks[0]) / weights for peak in peaks]


def test_activations_of_all_rows_of_a_pass_are_set_apart(report: Report) -> None:
    rows = [row for row in report.steps if row.model == "tiny"]
    assert rows[0].own_share == rows[0].peak_share == 0
    for row in rows:
        assert row.own_share is not None
        assert row.peak_share is not None
        # A pass of `paired` on losses of examples has the rows of both points; what they take is not the engine's own.
        doubled = row.engine == "paired" and row.closure == "per-example"
        assert row.own_share < row.peak_share if doubled else True
        assert row.own_share == row.peak_share if row.engine == "fused" else True


def test_noise_kernels_are_compared_with_normal_numbers_and_a_copy(report: Report) -> None:
    normal, copy, *ours = report.kernels
    assert (normal.backend, copy.backend) == ("torch.normal", "copy")
    assert normal.speedup == copy.of_copy == 1
    backend = [row for row in ours if row.backend == "torch"]
    operations = [(z, name) for z in ("gaussian", "rademacher") for name in ("fill", "add", "points")]
    assert [(row.distribution, row.operation) for row in backend] == operations
    for row in report.kernels:
        assert row.rate == pytest.approx(1000 / row.time.median / 1e6)
        assert row.speedup == pytest.approx(row.rate / normal.rate)
        assert row.of_copy == pytest.approx(row.bandwidth / copy.bandwidth)
    moved = {row.operation: row.bandwidth * row.time.median / 1000 for row in backend}
    assert moved == pytest.approx({"fill": 4, "add": 8, "points": 12})


def test_a_report_survives_json(report: Report) -> None:
    text = json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert Report.model_validate_json(text) == report


def test_machine_and_versions_are_in_the_report(report: Report) -> None:
    assert report.environment["device"].startswith("cpu (")
    assert report.environment["threads"] == 1
    assert report.environment["packages"]["torch"] == importlib.metadata.version("torch")
    assert report.environment.keys() >= {"shoestring", "numba", "triton"}


def test_a_benchmark_leaves_random_states_alone_and_uses_the_threads_it_is_told(
    global_random_states: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def threads(count: int) -> AbstractContextManager[None]:
        told.append(count)
        return timing.threads(1)

    monkeypatch.setattr(zeroth, "threads", threads)
    few = {"models": ("tiny",), "rounds": 1, "closures": ("plain",), "directions": ("gaussian",), "threads": 3}
    bench_zeroth(SETTINGS.model_copy(update=few))
    assert told == [3]


class Stubborn(ReplayEngine):
    """Refuses whatever it is asked."""

    def losses(self, closure: Closure, points: Points) -> list[float]:
        raise OptimizerError("not with me")


class Wary(ReplayEngine):
    """Warns each time."""

    def losses(self, closure: Closure, points: Points) -> list[float]:
        logging.getLogger("shoestring.zeroth").warning("this may %s", "drift")
        return super().losses(closure, points)


def test_what_an_engine_warns_of_stands_beside_its_rows_and_is_not_shown_every_round(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ENGINES.names()
    monkeypatch.setitem(ENGINES._entries, "wary", Wary)
    few = {"models": ("tiny",), "rounds": 1, "closures": ("plain",), "directions": ("gaussian",)}
    found = bench_zeroth(SETTINGS.model_copy(update=few | {"engines": ("wary", "replay")}))
    assert {row.engine: row.warned for row in found.steps} == {None: (), "wary": ("this may drift",), "replay": ()}
    assert caplog.records == []
    logging.getLogger("shoestring.zeroth").warning("shown again")
    assert [record.message for record in caplog.records] == ["shown again"]


def test_what_an_engine_refuses_has_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ENGINES.names()
    monkeypatch.setitem(ENGINES._entries, "stubborn", Stubborn)
    few = {"models": ("tiny",), "rounds": 1, "closures": ("plain",), "directions": ("gaussian",)}
    found = bench_zeroth(SETTINGS.model_copy(update=few | {"engines": ("stubborn", "replay")}))
    assert [row.engine for row in found.steps] == [None, None, None, "replay", "stubborn"]
    assert (found.steps[-1].refused, found.steps[-1].time) == ("not with me", None)
    assert found.steps[-2].refused is None


def test_the_bar_reaches_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told:
        def __init__(self) -> None:
            self.counts: dict[str, list[int]] = {}

        def bar(self, label: str, total: int) -> AbstractContextManager[Told.Bar]:
            self.counts[label] = [0, total]
            return nullcontext(Told.Bar(self.counts[label]))

        class Bar:
            def __init__(self, counts: list[int]) -> None:
                self.counts = counts

            def advance(self, steps: int = 1) -> None:
                self.counts[0] += steps

            def note(self, text: str) -> None:
                raise AssertionError(text)

    ENGINES.names()
    monkeypatch.setitem(ENGINES._entries, "stubborn", Stubborn)
    told = Told()
    few = {"models": ("tiny",), "rounds": 1, "closures": ("plain",), "engines": ("stubborn", "replay")}
    found = bench_zeroth(SETTINGS.model_copy(update=few | {"dtypes": ("bfloat16",)}), progress=told)
    assert "add, rounded" in {row.operation for row in found.kernels}
    assert told.counts.keys() == {"tiny bfloat16", "noise bfloat16"}
    assert all(done == total for done, total in told.counts.values())


class Headstrong(MeZO):
    """Has directions of its own."""

    def __init__(self, params: Params, **settings: Any) -> None:
        if "directions" in settings:
            raise OptimizerError("directions are my own")
        super().__init__(params, **settings)


def test_optimizers_with_directions_of_their_own_have_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    OPTIMIZERS.names()
    monkeypatch.setitem(OPTIMIZERS._entries, "headstrong", Headstrong)
    assert takes_directions("mezo")
    assert not takes_directions("headstrong")
    settings = SETTINGS.model_copy(update={"optimizers": ("mezo", "headstrong"), "closures": ("plain",)})
    ours = [one for one in contestants(settings) if one.step in settings.optimizers]
    assert [(one.step, one.directions) for one in ours] == [
        ("mezo", "gaussian"),
        ("mezo", "rademacher"),
        ("headstrong", "own"),
    ]
    racer = ours[-1].start(prepare(shape_named("tiny"), "float32", SMALL, CPU))
    racer.step()
    assert racer.forwards == 2


@pytest.mark.parametrize("closure", ["per-example", "plain"])
def test_our_step_moves_the_weights_and_counts_its_passes(closure: str) -> None:
    work = prepare(shape_named("tiny"), "float32", SMALL, CPU)
    before = [param.detach().clone() for param in work.model.parameters()]
    racer = OurStep(work, Contestant("mezo", "gaussian", "replay", closure))  # pyright: ignore[reportArgumentType]
    racer.step()
    racer.step()
    racer.finish()
    assert racer.forwards == 4
    assert any(not torch.equal(a, b) for a, b in zip(before, work.model.parameters(), strict=True))


UNKNOWN = {
    "models": ("shape of a model", "tinny", "tiny"),
    "optimizers": ("zeroth-order optimizer", "mezzo", "mezo"),
    "engines": ("engine", "reply", "replay"),
    "directions": ("directions", "gausian", "gaussian"),
}


@pytest.mark.parametrize("field", UNKNOWN)
def test_an_unknown_name_is_answered_with_the_nearest(field: str) -> None:
    kind, given, nearest = UNKNOWN[field]
    with pytest.raises(UnknownNameError, match=f"unknown {kind} '{given}'; did you mean '{nearest}'"):
        bench_zeroth(SETTINGS.model_copy(update={field: (given,)}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="device='cuda': this machine has no CUDA device; use cpu"):
        bench_zeroth(SETTINGS.model_copy(update={"device": "cuda"}))


def step_row(**changes: object) -> StepRow:
    row = {"model": "opt-125m", "dtype": "bfloat16", "step": "mezo", "directions": "gaussian", "engine": "paired"}
    row |= {"closure": "per-example", "of_floor": 1.2, "speedup": 5.6, "own_share": 0.031}
    return StepRow.model_validate(row | changes)


PUBLISHED = BenchSettings()


def test_unless_told_otherwise_every_engine_is_measured() -> None:
    assert PUBLISHED.engines == tuple(ENGINES.names())
    assert {"fused", "paired", "replay"} <= set(PUBLISHED.engines)


def told(row: StepRow, settings: BenchSettings = PUBLISHED) -> dict[str, str]:
    return {goal.what: goal.text for goal in step_goals(row, settings)}


def test_goals_stand_beside_the_rows_they_are_about() -> None:
    assert told(step_row()) == {"of_floor": "<= 1.35: yes", "speedup": ">= 5.5: yes", "own_share": "<= 3%: NO"}
    assert told(step_row(directions="rademacher"))["of_floor"] == "<= 1.1: NO"
    assert told(step_row(dtype="float32", speedup=4.0))["speedup"] == ">= 4: yes"
    assert told(step_row(step="lozo", directions="own", engine="replay")).keys() == {"of_floor", "speedup"}
    assert told(step_row(step="hizoo-l")) == {"own_share": "<= 10%: yes"}


def test_rows_of_other_models_batches_closures_and_devices_have_no_goals() -> None:
    assert told(step_row(model="tiny")) == told(step_row(closure="plain")) == {}
    assert told(step_row(), BenchSettings(workload=SMALL)) == told(step_row(), BenchSettings(device="cuda")) == {}


def test_the_goal_of_a_noise_kernel_is_about_the_fast_backend_adding(report: Report) -> None:
    add = next(row for row in report.kernels if (row.backend, row.operation) == ("torch", "add"))
    fast = add.model_copy(update={"backend": "numba", "speedup": 14.0})
    goals: dict[str, tuple[str, ...]] = {}
    for z in ("gaussian", "rademacher"):
        row = fast.model_copy(update={"distribution": z})
        goals[z] = tuple(goal.text for goal in kernel_goals(row, PUBLISHED))
    assert goals == {"gaussian": (">= 4: yes",), "rademacher": (">= 15: NO",)}
    others: list[KernelRow] = [add, fast.model_copy(update={"operation": "fill"})]
    assert [kernel_goals(row, PUBLISHED) for row in others] == [(), ()]
    assert kernel_goals(fast, BenchSettings(device="cuda")) == ()


def test_time_in_matrix_products_is_told_from_the_rest() -> None:
    one = torch.ones(200, 200)

    def multiply() -> None:
        one @ one

    def add() -> None:
        one + one

    matrix_seconds(multiply, CPU)  # the profiler's own start
    assert matrix_seconds(multiply, CPU) > 0
    assert matrix_seconds(add, CPU) == 0


def test_a_peak_is_what_torch_holds_at_once_to_the_byte() -> None:
    def work() -> None:
        first = torch.ones(1000)
        del first
        second = torch.ones(3000), torch.ones(500)
        del second

    assert peak_of(work) == 3500 * 4
    assert peak_of(lambda: None) == 0
    assert "KINETO_LOG_LEVEL" not in os.environ


def test_memory_from_before_that_a_call_frees_is_counted_as_freed_and_comes_back() -> None:
    weight = torch.nn.Parameter(torch.ones(1000))
    own = weight.data

    def replace() -> None:
        for _ in range(3):
            weight.data = torch.zeros(1000)

    assert peak_of(replace, [weight]) == 4000
    assert weight.data_ptr() == own.data_ptr()
    assert torch.equal(weight.data, torch.ones(1000))


def test_the_peak_of_the_reference_is_that_of_its_largest_tensors_and_its_forward_pass(
    capfd: pytest.CaptureFixture[str],
) -> None:
    work = prepare(shape_named("tiny"), "float32", SMALL, CPU)
    before = [param.detach().clone() for param in work.model.parameters()]
    found = {step: peak(Contestant(step), work) for step in ("floor", "reference")}
    largest = max(param.numel() * param.element_size() for param in before)
    # Beside the weight: its new value, z, and two factors of it.
    assert found["floor"] < found["reference"] <= found["floor"] + 6 * largest
    assert all(torch.equal(*pair) for pair in zip(before, work.model.parameters(), strict=True))
    assert "unknown size" not in capfd.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_the_share_outside_matrix_products_and_the_bandwidth_of_kernels_are_measured() -> None:
    cuda = {"device": "cuda", "dtypes": ("float16", "bfloat16"), "noise_elements": 1 << 20, "engines": ENGINES.names()}
    found = bench_zeroth(SETTINGS.model_copy(update=cuda))
    assert found.memory_by == "torch.cuda.max_memory_allocated"
    for row in found.steps:
        if row.refused is None:
            assert row.outside_matrix is not None
            assert 0 <= row.outside_matrix < 1
            assert row.peak is not None
            assert row.peak > 0
    assert all(row.bandwidth > 0 and row.of_copy > 0 for row in found.kernels)
    assert matrix_seconds(lambda: None, torch.device("cuda")) == 0
    one = torch.ones(1024, 1024, device="cuda", dtype=torch.bfloat16)

    def multiply() -> None:
        one @ one

    assert 0 < matrix_seconds(multiply, torch.device("cuda")) <= lap(multiply, torch.device("cuda")) * 10
