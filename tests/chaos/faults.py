"""What can happen to a job, and when."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.footage import is_video
from tests.chaos.places import Bucket
from tests.chaos.processes import at_work, workers
from tests.chaos.scene import Scene
from tests.chaos.weather import Spell
from tests.stores import fault_proxy
from tests.stores.fault_proxy import Request

Strike = Callable[[Scene], bool]
"""Does it, if it can be done now, and says whether it was done."""

_QUICK = tuple(fault for fault in fault_proxy.Fault if fault is not fault_proxy.Fault.SILENCE)
_PATIENCE_S = 60.0
_SPIN_S = 3.0


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        make: Makes the strike of one fault, which is called at every look until it struck.
        needs: What a scene must have: `weather`, `disk`, `machines`; empty where it strikes any job.
        at_any_time: Whether it strikes also before the first segment is committed.
    """

    name: str
    make: Callable[[random.Random], Strike]
    needs: str = ""
    at_any_time: bool = True


@dataclass
class Planned:
    """A fault that is to strike once so many segments are committed, and so many seconds later."""

    kind: Kind
    strike: Strike
    num_committed: int
    delay_s: float
    _reached_s: float | None = None

    def strikes(self, scene: Scene) -> bool:
        """Strikes if it is time, and says whether it did."""
        if len(scene.seen.receipts) < self.num_committed:
            return False
        self._reached_s = self._reached_s or time.monotonic()
        return time.monotonic() >= self._reached_s + self.delay_s and self.strike(scene)


def kill_worker(scene: Scene) -> bool:
    """Ends one worker's process."""
    there = workers()
    if there:
        scene.end_worker(scene.rng.choice(there))
    return bool(there)


def kill_driver(scene: Scene) -> bool:
    """Ends a driver's process alone; what it started is Ray's to clean up."""
    scene.rng.choice(scene.living_runs).kill()
    return True


def kill_joining_driver(scene: Scene) -> bool:
    """The same while a worker joins segments."""
    if not scene.joining:
        return False
    time.sleep(scene.rng.uniform(0, 0.15))
    return kill_driver(scene)


def interrupt_driver(scene: Scene) -> bool:
    """Ctrl-C."""
    there = [run for run in scene.living_runs if run.has_begun and not run.is_interrupted]
    if there:
        scene.rng.choice(there).interrupt()
    return bool(there)


def start_second_driver(scene: Scene) -> bool:
    """Starts the same job once more while it runs."""
    if len(scene.living_runs) != 1:
        return False
    scene.may_write_twice = True
    scene.start_run().is_struck = True
    return True


def spoil_part(scene: Scene) -> bool:
    """Flips bits in a stored part that is not joined yet."""
    return _destroy(scene, lambda key: scene.job.place.write(key, _rotten(scene.job.place.read(key))))


def take_part_away(scene: Scene) -> bool:
    """Deletes a stored part that is not joined yet."""
    return _destroy(scene, scene.job.place.delete)


def stop_worker_for_a_while(scene: Scene) -> bool:
    """A worker that is at a task stands still for some seconds."""
    there = at_work()
    if there:
        victim = scene.rng.choice(there)
        scene.freeze(victim)
        scene.after(scene.rng.uniform(2, 8), lambda: scene.thaw(victim))
    return bool(there)


def stop_worker_for_good(scene: Scene) -> bool:
    """A worker that is at a task stands still until the job is done."""
    there = at_work()
    if there:
        scene.freeze(scene.rng.choice(there))
    return bool(there)


def starve_worker(scene: Scene) -> bool:
    """The device of a worker that is at a task has hardly any memory left, for some seconds."""
    there = at_work()
    if there:
        victim = scene.rng.choice(there)
        victim.leave_memory(scene.rng.choice((0, 1, 4, 16, 64)) * 2**20)
        scene.after(scene.rng.uniform(0.3, 4), victim.give_memory)
    return bool(there)


def fill_disk(scene: Scene) -> bool:
    """The disk that workers write to has no room for some seconds."""
    assert scene.disk is not None
    scene.disk.fill()
    scene.after(scene.rng.uniform(0.5, 4), scene.disk.free)
    return True


def remove_node(scene: Scene) -> bool:
    """A machine is gone without notice; another one comes later."""
    machines = scene.machines
    assert machines is not None
    node = machines.pick(scene.rng)
    if node is None:
        return False
    machines.remove(node)
    scene.after(scene.rng.uniform(0.5, 4), machines.add)
    return True


def drain_node(scene: Scene) -> bool:
    """A machine is taken away some seconds after notice was given; another one comes."""
    machines = scene.machines
    assert machines is not None
    node = machines.pick(scene.rng)
    if node is None:
        return False
    seconds = scene.rng.uniform(2, 8)
    machines.drain(node, seconds)
    scene.after(seconds, lambda: machines.remove(node))
    scene.after(seconds * scene.rng.random(), machines.add)
    return True


@dataclass
class LosePowerAfterPublishing:
    """Everything is gone at the moment between an output and its receipt."""

    _sprung: list[bool] = field(default_factory=list)
    _is_set: bool = False

    def __call__(self, scene: Scene) -> bool:
        if not isinstance(scene.job.place, Bucket):
            return bool(scene.joining) and _lose_power_with_next_output(scene)
        assert scene.weather is not None
        if not self._is_set:
            self._is_set = True
            scene.weather.trap(lambda request: self._springs(scene, request))
        return bool(self._sprung)

    def _springs(self, scene: Scene, request: Request) -> bool:
        is_receipt = request.method == "PUT" and "/.framelift/outputs/" in request.path
        if is_receipt:
            scene.lose_power()
            self._sprung.append(True)
        return is_receipt


@dataclass
class Storm:
    """A spell of bad weather. It struck with the first request that it hit."""

    spell: Spell
    seconds: float
    _is_on: bool = False

    def __call__(self, scene: Scene) -> bool:
        assert scene.weather is not None
        if not self._is_on:
            self._is_on = True
            self.spell.until_s = time.monotonic() + self.seconds
            scene.weather.spells.append(self.spell)
        return bool(self.spell.hit)


def _one(fault: fault_proxy.Fault) -> Callable[[random.Random], Strike]:
    """One to three requests of one sort are hit."""

    def make(rng: random.Random) -> Strike:
        matches = _matching(fault, rng)
        return Storm(Spell((fault,), 0.0, rng.randint(1, 3), rng.uniform(0.2, 1), matches), _PATIENCE_S)

    return make


def _matching(fault: fault_proxy.Fault, rng: random.Random) -> Callable[[Request], bool]:
    match fault:
        case fault_proxy.Fault.CUT | fault_proxy.Fault.TRUNCATED:
            return lambda request: request.method == "GET"
        case fault_proxy.Fault.LOST_ANSWER:
            return lambda request: request.method in ("PUT", "POST", "DELETE")
    method = rng.choice(("GET", "PUT", "HEAD", ""))
    return lambda request: method in ("", request.method)


def _burst(rng: random.Random) -> Strike:
    return Storm(Spell(_QUICK, 0.0, 10_000, rng.uniform(0.2, 0.8)), rng.uniform(2, 5))


def _outage(rng: random.Random) -> Strike:
    faults = (fault_proxy.Fault.UNAVAILABLE, fault_proxy.Fault.RESET)
    return Storm(Spell(faults, 0.0, 10_000), rng.uniform(3, 8))


KINDS = (
    Kind("worker killed", lambda rng: kill_worker),
    Kind("driver killed", lambda rng: kill_driver),
    Kind("driver killed while joining", lambda rng: kill_joining_driver),
    Kind("power lost between output and receipt", lambda rng: LosePowerAfterPublishing()),
    Kind("driver interrupted", lambda rng: interrupt_driver),
    Kind("two drivers", lambda rng: start_second_driver),
    Kind("part spoiled", lambda rng: spoil_part, at_any_time=False),
    Kind("part gone", lambda rng: take_part_away, at_any_time=False),
    Kind("worker stopped for a while", lambda rng: stop_worker_for_a_while),
    Kind("worker stopped for good", lambda rng: stop_worker_for_good),
    Kind("out of memory", lambda rng: starve_worker),
    Kind("disk full", lambda rng: fill_disk, needs="disk"),
    Kind("node removed", lambda rng: remove_node, needs="machines"),
    Kind("node drained", lambda rng: drain_node, needs="machines"),
    Kind("store: burst", _burst, needs="weather"),
    Kind("store: outage", _outage, needs="weather"),
    *(
        Kind(f"store: {fault.name.lower().replace('_', ' ')}", _one(fault), needs="weather")
        for fault in fault_proxy.Fault
    ),
)


def plan_faults(kinds: tuple[Kind, ...], number: int, num_segments: int, rng: random.Random) -> list[Planned]:
    """So many faults of these kinds, spread over a job, in the order of their time."""
    planned = []
    for _ in range(number):
        kind = rng.choice(kinds)
        num_committed = rng.randint(0 if kind.at_any_time else 1, num_segments - 1)
        delay_s = rng.uniform(0, 0.6) if num_committed else rng.uniform(0, 7)
        planned.append(Planned(kind, kind.make(rng), num_committed, delay_s))
    return sorted(planned, key=lambda fault: (fault.num_committed, fault.delay_s))


def _destroy(scene: Scene, spoil: Callable[[str], None]) -> bool:
    unjoined = scene.seen.unjoined
    if not unjoined:
        return False
    segment_key = scene.rng.choice(unjoined)
    scene.destroyed.add(segment_key)
    try:
        spoil(sorted(scene.seen.parts[segment_key])[0])
    except FileNotFoundError:  # joined meanwhile
        return False
    return True


def _rotten(content: bytes) -> bytes:
    middle = len(content) // 2
    return (
        content[:middle] + bytes(255 - byte for byte in content[middle : middle + 8]) + content[middle + 8 :]
    )


def _lose_power_with_next_output(scene: Scene) -> bool:
    """Waits for the next video to appear in its folder and does nothing else: there is less than a ms."""
    folder = Path(scene.job.place.output)
    awaited = [
        str(folder / name) for name in scene.outputs if is_video(name) and name not in scene.seen.outputs
    ]
    pids = [process.pid for process in workers()]
    deadline_s = time.monotonic() + _SPIN_S
    while not any(map(os.path.exists, awaited)):
        if time.monotonic() > deadline_s:
            return False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    scene.lose_power()
    return True
