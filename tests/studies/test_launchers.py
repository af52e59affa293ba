"""Launchers: workers here, a Ray cluster of two nodes, jobs through submitit; and memory for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from shoestring.config import build
from shoestring.errors import ConfigError, MissingPackageError, UnknownNameError, WorkerError
from shoestring.models.settings import MaskedModel
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record, read_record
from shoestring.runs.run import run
from shoestring.studies.engine import Engine, InOrder
from shoestring.studies.launchers import local, room
from shoestring.studies.launchers.base import LAUNCHERS, Ended
from shoestring.studies.launchers.ray import Ray
from shoestring.studies.launchers.ray import _Pool as ray_pool
from shoestring.studies.launchers.slurm import Slurm

GIB = 1 << 30


class Told:
    """Notes how runs ended."""

    def __init__(self, on_tick: Callable[[], None] = lambda: None) -> None:
        self.hows: list[str] = []
        self.tick = on_tick

    def began(self, config: RunConfig) -> None:
        pass

    def ended(self, ended: Ended) -> None:
        self.hows.append(ended.how)


@pytest.fixture
def configs(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> Callable[..., list[RunConfig]]:
    def make(out: str = "runs", count: int = 2, **method: Any) -> list[RunConfig]:
        changes: dict[str, Any] = {"method": method} if method else {}
        return [
            tiny.config(tiny_masked_folder, tiny_original, tmp_path / out, seed=seed, **changes)
            for seed in range(count)
        ]

    return make


def metrics(configs: list[RunConfig]) -> list[Any]:
    records: list[Record | None] = [read_record(config.folder) for config in configs]
    return [record.metrics if record is not None and record.status == "ok" else record for record in records]


def test_launchers_are_found_by_name() -> None:
    assert {"here", "local", "ray", "slurm"} <= {*LAUNCHERS.names()}
    with pytest.raises(UnknownNameError, match="unknown launcher 'rya'; did you mean 'ray'"):
        LAUNCHERS.get("rya")


@pytest.mark.parametrize(("launcher", "package"), [(Ray(), "ray"), (Slurm(), "submitit")])
def test_a_launcher_whose_library_is_missing_says_how_to_install_it(
    launcher: Ray | Slurm, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'shoestring\[{launcher.kind}\]'"), launcher.open():
        pass


def test_a_run_needs_its_weights_a_few_times_over_until_it_has_been_measured(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    model, other = MaskedModel(name=str(tmp_path)), MaskedModel(name="somewhere/else")
    memory = room.Room(4 * GIB)
    assert memory.need(model) == int(0.75 * GIB + 5 * 1000)
    memory.learn(model, 3 * GIB)
    memory.learn(model, 2 * GIB)
    assert memory.need(model) == 3 * GIB
    assert memory.holds(model, [])
    assert memory.holds(other, [(model, 0)])
    assert not memory.holds(model, [(other, 2 * GIB)])


def test_the_weights_of_a_hub_id_are_those_of_its_copy_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("config.json", 50), ("model.safetensors", 1000), ("pytorch_model.bin", 900)):
        (tmp_path / name).write_bytes(b"0" * size)
    seen: list[tuple[str, str]] = []

    def cached(name: str, file: str, revision: str) -> str | None:
        seen.append((name, revision))
        return str(tmp_path / file) if name == "org/model" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    bare = room.Room().need(MaskedModel(name="org/other"))
    assert room.Room().need(MaskedModel(name="org/model", revision="abc")) == bare + 5 * 1000
    assert seen == [("org/other", "main"), ("org/model", "abc")]
    monkeypatch.undo()
    assert room.Room().need(MaskedModel(name="no/such/folder")) == bare


def test_memory_that_running_runs_will_still_take_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskedModel(name="m")
    memory = room.Room()
    memory.learn(model, 2 * GIB)
    monkeypatch.setattr(room, "available", lambda: 3 * GIB)
    assert memory.holds(model, [(model, 2 * GIB)])
    assert memory.holds(model, [(model, 1 * GIB)])
    assert not memory.holds(model, [(model, GIB // 2)])
    assert memory.holds(model, [(model, GIB // 2)], idle=GIB)  # A worker that holds some of it already.
    monkeypatch.setattr(room, "available", lambda: None)
    assert memory.holds(model, [(model, 0)] * 100)


def test_the_least_of_the_machines_memory_and_its_groups_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (room.available() or GIB) > 0
    assert room.held(0) == 0
    for name, text in (("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 600\nfile 100\n")):
        (tmp_path / name).write_text(text)
    assert room._of_group(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert room._of_group(tmp_path) is None
    monkeypatch.setattr(room, "_of_machine", lambda: 500)
    monkeypatch.setattr(room, "_of_group", lambda: 400)
    assert room.available() == 400


def test_each_worker_sees_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    class Stub:
        def __init__(self, environment: dict[str, str], place: int) -> None:
            self.config: RunConfig | None = None
            self.place, self.lives, self.pid = place, True, 0
            seen.append(environment)

        def begin(self, config: RunConfig, *, force: bool, limits: Any = None) -> None:
            self.config = config

        def ask_to_end(self) -> None:
            pass

        def end(self, seconds: float) -> None:
            pass

    monkeypatch.setattr(local, "Worker", Stub)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert local.gpus() == ["3", "5"]
    monkeypatch.setattr(room, "available", lambda: None)
    table = {"task": "SST-2", "model": {"kind": "masked", "name": "m"}, "method": {"kind": "mezo"}}
    config = RunConfig.model_validate(table)
    with local.Local().open() as pool:
        begun = 0
        while pool.takes(config):
            pool.submit(config, force=False)
            begun += 1
    assert begun == 2
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in seen] == ["3", "5"]
    with local.Local(jobs=3).open() as pool:
        assert [pool.submit(config, force=False) for _ in range(3)] == [None] * 3
        assert not pool.takes(config)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in seen[2:]] == ["3", "5", "3"]


def test_slurm_that_is_not_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkerError, match="there is no Slurm here"), Slurm().open():
        pass
    with pytest.raises(ConfigError, match=r"minuts: unknown key; did you mean 'minutes'"):
        build(Slurm, {"minuts": 3}, "launcher slurm")


@pytest.mark.usefixtures("frozen_imports")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # It leaves its logs open.
def test_jobs_through_submitit_give_the_numbers_of_run(configs: Callable[..., list[RunConfig]], tmp_path: Path) -> None:
    """submitit's debug executor makes its job in this process, as it would on a node."""
    pytest.importorskip("submitit")
    alone = configs("alone", 1)
    for config in alone:
        run(config)
    told = Told()
    jobs = configs("jobs", 1)
    launcher = Slurm(through="debug", logs=str(tmp_path / "logs"))
    Engine(launcher, told).make(InOrder(jobs))
    assert told.hows == ["ok"]
    assert metrics(jobs) == metrics(alone)


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_imports")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_job_that_is_killed_is_begun_again(configs: Callable[..., list[RunConfig]], tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = Slurm(through="local", logs=str(tmp_path / "logs"), jobs=2)
    jobs = configs("jobs", 2, kind="mezo", steps=300, batch_size=4, eval_every=20, lr=1e-3)
    killed: list[int] = []

    def kill() -> None:
        import psutil

        if not killed and list(tmp_path.glob("jobs/*/checkpoints/*")):
            children = psutil.Process().children()
            killed.append(children[0].pid)
            for process in [*children[0].children(recursive=True), children[0]]:
                process.kill()

    told = Told(kill)
    Engine(launcher, told).make(InOrder(jobs))
    assert killed
    assert sorted(told.hows) == ["lost", "ok", "ok"]
    again = configs("alone", 2, kind="mezo", steps=300, batch_size=4, eval_every=20, lr=1e-3)
    for config in again:
        run(config)
    assert metrics(jobs) == metrics(again)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine: the second can be taken away."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    made = pytest.importorskip("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_imports")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_ray_node_that_is_killed_in_the_middle_changes_no_number(
    cluster: Any, configs: Callable[..., list[RunConfig]], tmp_path: Path
) -> None:
    method = {"kind": "mezo", "steps": 200, "batch_size": 4, "eval_every": 20, "lr": 1e-3}
    second = cluster.add_node(num_cpus=1)
    jobs = configs("ray", 4, **method)
    gone: list[bool] = []

    def take_away() -> None:
        # Both nodes are at work: two runs have checkpoints, and none has ended.
        if not gone and len({path.parent for path in tmp_path.glob("ray/*/checkpoints/*")}) == 2:
            gone.append(True)
            cluster.remove_node(second, allow_graceful=False)

    told = Told(take_away)
    Engine(Ray(address=cluster.address), told).make(InOrder(jobs))
    assert gone
    assert told.hows.count("ok") == 4
    assert told.hows.count("lost") >= 1
    alone = configs("alone", 4, **method)
    for config in alone:
        run(config)
    assert metrics(jobs) == metrics(alone)


def test_a_ray_worker_that_can_make_no_run_ends_the_sweep(configs: Callable[..., list[RunConfig]]) -> None:
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        pass

    def get(_: object) -> None:
        raise RayTaskError("ray::attempt()\n  File ...\nModuleNotFoundError: No module named 'shoestring'")

    stub = SimpleNamespace(
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda *_, **__: "task"),
        wait=lambda tasks, **_: (tasks, []),
        get=get,
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
    )
    pool = ray_pool(Ray(), stub)
    pool.submit(configs("runs", 1)[0], force=False)
    with pytest.raises(WorkerError, match="cannot make runs: ModuleNotFoundError: No module named 'shoestring'; the"):
        pool.wait(1.0)
