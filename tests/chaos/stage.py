"""Where episodes take place: sources, a store, a cluster, and what an undisturbed job gives."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checks import Finding, Truth, said_by_workers
from tests.chaos.disk import can_mount, small_disk
from tests.chaos.episode import Account, Episode
from tests.chaos.faults import KINDS, Kind, Planned
from tests.chaos.footage import make_footage
from tests.chaos.jobs import Job
from tests.chaos.machines import Machines
from tests.chaos.places import Bucket, Folder, Place, output_key
from tests.chaos.processes import Process, wait_until_gone
from tests.chaos.scene import Scene
from tests.chaos.weather import Weather
from tests.stores.fault_proxy import FaultProxy, fault_proxy
from tests.stores.s3_server import client, credentials, new_bucket, s3_server

_NUM_NODES = 2
_TRUTH_S = 300.0
# Ray's own agents call a dead server for a minute before they give up.
_GONE_S = 120.0


@dataclass(frozen=True)
class Store:
    """An S3 store with the sources in it, behind a proxy that can break what passes."""

    server_url: str
    bucket: str
    proxy: FaultProxy

    def place(self, name: str) -> Place:
        """A new output in it."""
        settings = f"?endpoint_url={self.proxy.url}&region=us-east-1&addressing=path&timeout_seconds=2"
        root = f"s3://{self.bucket}"
        plain = client(self.server_url)
        return Bucket(f"{root}/in{settings}", f"{root}/{name}{settings}", plain, self.bucket, name)


@dataclass
class Stage:
    """What all episodes share.

    Attributes:
        folder: For everything; its path is short, since Ray makes sockets in it.
        truth: What every job must give.
        segments_of: How many segments each video has, by job and output key.
        usual_s: How long an undisturbed job takes, by job.
    """

    folder: Path
    store: Store | None
    truth: Truth
    has_disks: bool
    segments_of: dict[str, dict[str, int]] = field(default_factory=dict)
    usual_s: dict[str, float] = field(default_factory=dict)
    _departing: set[Process] = field(default_factory=set)

    def kinds(self, job: str) -> tuple[Kind, ...]:
        """What can happen to a job of that sort."""
        has = {"": True, "weather": job == "s3", "disk": self.has_disks, "machines": job == "cluster"}
        return tuple(kind for kind in KINDS if has[kind.needs])

    def num_segments(self, job: str) -> int:
        """Of all videos together."""
        return sum(self.segments_of[job].values())

    def measure(self, job: str) -> Account:
        """Runs a job that nothing happens to, and keeps how long that takes."""
        account = self.play(f"{job}-usual", job, [], random.Random(0))
        self.usual_s[job] = account.seconds
        return account

    def play(self, name: str, job: str, planned: list[Planned], rng: random.Random) -> Account:
        """Lets a job of one sort live through what is planned."""
        account = Account(name, job)
        folder = self.folder / name
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            scene = self._scene(job, folder, planned, rng, stack)
            episode = Episode(scene, planned, self.truth, account)
            episode.live()
            self._departing |= episode.departing
            self.segments_of.setdefault(job, dict(Counter(map(output_key, scene.seen.receipts))))
        account.findings += said_by_workers(folder / "r" / "ray")
        if not account.findings:
            shutil.rmtree(folder, ignore_errors=True)  # a Ray that ends may still write there
        return account

    def see_off(self) -> Account:
        """Waits until every process of every episode is gone."""
        account = Account("the end", "")
        for process in wait_until_gone(list(self._departing), _GONE_S):
            account.findings.append(Finding("a process is left", f"{process.pid} {process.title}"))
            process.signal(signal.SIGKILL)
        return account

    def _scene(
        self, job: str, folder: Path, planned: list[Planned], rng: random.Random, stack: contextlib.ExitStack
    ) -> Scene:
        needs_disk = any(fault.kind.needs == "disk" for fault in planned)
        disk = stack.enter_context(small_disk(folder / "disk")) if needs_disk else None
        environment = {"RAY_TMPDIR": str(folder / "r"), "TMPDIR": str(disk.folder if disk else folder / "t")}
        for made in environment.values():
            Path(made).mkdir(exist_ok=True)
        machines = None
        if job == "cluster":
            machines = stack.enter_context(_machines(environment))
            environment |= {"RAY_ADDRESS": machines.address}
        place: Place = Folder(str(self.folder / "in"), str((disk.folder if disk else folder) / "out"))
        weather = None
        if job == "s3":
            assert self.store is not None
            place = self.store.place(folder.name)
            weather = Weather(self.store.proxy, rng)
        outputs = tuple(self.truth.sha256s)
        segments_of = self.segments_of.get(job, {})
        return Scene(rng, Job(place, folder, environment), segments_of, outputs, weather, disk, machines)


@contextlib.contextmanager
def stage(folder: Path, jobs: tuple[str, ...]) -> Iterator[Stage]:
    """Makes the sources and finds out what an undisturbed run of one worker gives."""
    sources = folder / "in"
    make_footage(sources)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(_store(sources)) if "s3" in jobs else None
        yield Stage(folder, store, _truth(folder, sources), can_mount(folder / "can-mount"))


@contextlib.contextmanager
def _store(sources: Path) -> Iterator[Store]:
    with credentials(), s3_server() as url, fault_proxy(url) as proxy:
        store = Store(url, new_bucket(url), proxy)
        for path in sorted(sources.rglob("*.*")):
            key = f"in/{path.relative_to(sources).as_posix()}"
            client(url).put_object(Bucket=store.bucket, Key=key, Body=path.read_bytes())
        yield store


def _truth(folder: Path, sources: Path) -> Truth:
    home = folder / "truth"
    (home / "r").mkdir(parents=True)
    place = Folder(str(sources), str(home / "out"))
    run = Job(place, home, {"RAY_TMPDIR": str(home / "r")}, num_workers=1).start("run")
    if run.process.wait(_TRUTH_S):
        raise RuntimeError(f"the undisturbed run failed:\n{run.log.read_text()}")
    truth = Truth.of(place, sources)
    wrong = truth.count_frames(place)
    if wrong:
        raise RuntimeError(f"the undisturbed run is wrong: {wrong}")
    return truth


@contextlib.contextmanager
def _machines(environment: dict[str, str]) -> Iterator[Machines]:
    """A cluster whose processes, and whose drivers, have this environment."""
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # Ray reads it when it is imported, and at every start of a node
    machines = Machines(_NUM_NODES)
    try:
        yield machines
    finally:
        machines.close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
