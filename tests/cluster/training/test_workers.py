"""Training on workers of Ray Train, which are killed, stopped and taken away."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cluster.training import PixelStage, TrainJob
from cluster.training.workers import TrainRequest, train_on
from sr_core.errors import SpecError, WorkerError
from sr_core.train.schedule import Schedule
from sr_core.train.trainer import Cadence, Stage
from tests.cluster.test_actor import Machines
from tests.cluster.training.test_run import ROOT, pictures
from tests.cluster.training.test_run import job as short_job

# Ray's own start-up leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context"),
]

PATIENCE_S = 120.0
PROMPT = {"worker_niceness": 0}  # by default Ray lets all else go first


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"count": 0}, "count"),
        ({"cpus": 0.0}, "cpus"),
        ({"gpus": 2.0}, "gpus"),
        ({"count": 2, "gpus": 0.5}, "gpus"),
        ({"device": "cpu", "gpus": 1.0}, "gpus"),
        ({"device": "cuda", "gpus": 0.0}, "gpus"),
        ({"device": "tpu"}, "device"),
        ({"max_failures": -1}, "max_failures"),
        ({"start_seconds": 0.0}, "start_seconds"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_key(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(SpecError) as raised:
        TrainRequest(**wrong)

    assert raised.value.where == f"workers.{key}"


def test_where_nobody_listens_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="no Ray cluster that answers"):
        train_on(job(tmp_path, "run"), TrainRequest(address="127.0.0.1:9"))


def job(folder: Path, name: str) -> TrainJob:
    """Long enough for what is done to it to come before its end."""
    stages = (
        PixelStage(Stage(3200, 8, Schedule(warm_up_images=40), ema_decay=0.95), learning_rate=2e-3),
        PixelStage(Stage(800, 8), losses=(("mse", 1.0),), learning_rate=5e-4),
    )
    return replace(short_job(folder, name), stages=stages, cadence=Cadence(50, 100, 25))


class Runs:
    """Runs of one job, told of as they go, on a cluster whose driver is this process."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self.folder = folder
        self.machines = machines
        self.told: list[str] = []

    def take_one_away(self) -> None:
        """Gives notice of it to a machine on which a worker trains."""
        import ray

        groups = ray.util.placement_group_table().values()
        [busy] = [group["bundles_to_node_id"] for group in groups if group["state"] == "CREATED"]
        self.machines.drain(busy[0], 300.0)

    def __call__(
        self,
        name: str,
        request: TrainRequest | None = None,
        on_sentence: Callable[[str], None] = lambda sentence: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        self.told.clear()

        def tell(sentence: str) -> None:
            self.told.append(sentence)
            on_sentence(sentence)

        return train_on(job(self.folder, name), request or TrainRequest(count=2), is_over, tell)

    def weights(self, name: str) -> list[torch.Tensor]:
        """All that were kept of a run."""
        kept = [load_file(self.folder / name / f"{which}.safetensors") for which in ("last", "best")]
        return [found[key] for found in kept for key in sorted(found)]

    def is_like_the_undisturbed(self, name: str) -> bool:
        pairs = zip(self.weights("whole"), self.weights(name), strict=True)
        return all(torch.equal(expected, got) for expected, got in pairs)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A cluster whose head does no work, and an undisturbed run on it. Ray's sockets need a short path."""
    folder, ray_folder = tmp_path_factory.mktemp("training"), tempfile.mkdtemp(prefix="fl", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", ray_folder)
        import ray
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        machines = Machines(
            Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": PROMPT})
        )
        ray.init(address=machines.address, log_to_driver=False)
        runs = Runs(machines, folder)
        machines.complete()
        pictures(folder / "pictures")
        assert runs("whole")
        yield runs
        ray.shutdown()
        machines.cluster.shutdown()
    shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture
def runs(cluster: Runs) -> Runs:
    """On two machines of one core each."""
    cluster.machines.complete()
    return cluster


def children(pid: int) -> list[int]:
    """Processes that came of this one, and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    own = [child for child, parent in parents if parent == pid]
    return own + [found for child in own for found in children(child)]


def workers_of(pid: int) -> list[int]:
    """Those of them that train."""

    def trains(child: int) -> bool:
        try:
            return b"RayTrainWorker" in Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            return False

    return [child for child in children(pid) if trains(child)]


@pytest.mark.slow
def test_killed_workers_do_not_change_the_weights(runs: Runs) -> None:
    due = {"800 images": 0, "2400 images": 1}

    def kill(sentence: str) -> None:
        number = due.pop(sentence.partition(":")[0], None)
        if number is not None:
            os.kill(workers_of(os.getpid())[number], signal.SIGKILL)

    assert runs("killed", on_sentence=kill)

    assert not due
    assert sum("all go back to the last checkpoint" in sentence for sentence in runs.told) == 2
    assert sum(sentence.startswith("goes on from image") for sentence in runs.told) == 2
    assert runs.is_like_the_undisturbed("killed")


DRIVER = """
import signal
import sys
from pathlib import Path

from cluster.training.workers import TrainRequest, train_on
from tests.cluster.training.test_workers import job

told_to_stop = []
signal.signal(signal.SIGTERM, lambda number, frame: told_to_stop.append(number))
done = train_on(
    job(Path(sys.argv[1]), "driven"),
    TrainRequest(count=2),
    is_over=lambda: bool(told_to_stop),
    tell=lambda sentence: print(sentence, flush=True),
)
print("done" if done else "stopped for now")
"""


@contextmanager
def driver(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a Ray of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process


def wait_for(told: Iterable[str] | None, start: str) -> None:
    """Reads on until a line starts so."""
    assert told is not None
    assert any(line.startswith(start) for line in told), f"it ended without {start}"


@pytest.mark.slow
def test_a_driver_that_is_told_to_stop_and_later_killed_does_not_change_the_weights(runs: Runs) -> None:
    with driver(runs.folder) as process:
        wait_for(process.stdout, "400 images,")
        process.send_signal(signal.SIGTERM)
        wait_for(process.stdout, "stopped for now")
    assert process.returncode == 0

    with driver(runs.folder) as process:
        wait_for(process.stdout, "goes on from image")
        wait_for(process.stdout, "2400 images:")
        processes = children(process.pid)
        process.send_signal(signal.SIGKILL)

    deadline_s = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline_s, "processes were left behind"
        time.sleep(0.1)
    assert runs("driven")
    assert any(sentence.startswith("goes on from image") for sentence in runs.told)
    assert runs.is_like_the_undisturbed("driven")


@pytest.mark.slow
def test_when_it_is_over_it_stops_with_a_checkpoint_and_goes_on_exactly(runs: Runs) -> None:
    assert not runs("late", is_over=lambda: True)
    checkpoints = list((runs.folder / "late" / "checkpoints").glob("*.pt"))
    assert runs("late")

    assert len(checkpoints) == 1
    assert runs.is_like_the_undisturbed("late")


@pytest.mark.slow
def test_what_a_machine_was_at_that_is_taken_away_is_done_elsewhere_or_later(runs: Runs) -> None:
    runs.machines.cluster.add_node(num_cpus=1)

    def take_away(sentence: str) -> None:
        if sentence.startswith(("400 images,", "goes on from image")):
            runs.take_one_away()

    assert not runs("taken", on_sentence=take_away)

    assert sum(sentence.startswith("goes on from image") for sentence in runs.told) == 1
    assert "the others have no room" in runs.told[-1]


@pytest.mark.slow
def test_what_is_lost_too_often_is_a_worker_error(runs: Runs) -> None:
    def kill_one(sentence: str) -> None:
        if sentence.startswith("400 images,"):
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)

    with pytest.raises(WorkerError, match="goes on from the last checkpoint"):
        runs("lost", TrainRequest(count=2, max_failures=0), kill_one)


@pytest.mark.slow
def test_the_workers_own_errors_come_as_they_are_and_are_not_tried_again(runs: Runs) -> None:
    told = list[str]()
    asked = job(runs.folder, "odd")
    asked = replace(asked, data=replace(asked.data, sources=(str(runs.folder / "nowhere"),)))

    with pytest.raises(SpecError) as raised:
        train_on(asked, TrainRequest(count=2), tell=told.append)

    assert "nowhere" in str(raised.value)
    assert not any("failed" in sentence for sentence in told)


@pytest.mark.slow
@pytest.mark.parametrize("request_", [TrainRequest(count=3, cpus=1), TrainRequest(device="cuda")])
def test_what_the_machines_do_not_have_is_refused_at_once(runs: Runs, request_: TrainRequest) -> None:
    with pytest.raises(SpecError, match="2 machines of 1 CPU core"):
        runs("refused", request_)
