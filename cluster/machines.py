"""What machines there are, and how many workers of which size they get. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass as settings_dataclass

from sr_core.errors import SpecError

_START_S = 180.0
_SILENCE_S = 900.0
_CPUS_PER_WORKER = 4  # beyond that, threads of one worker wait for each other more than they work
_SMALLEST_SHARE = 0.01  # of a core, as Ray counts


@dataclass(frozen=True)
class Machine:
    """What one machine has for workers, or what one worker holds of it."""

    num_cpus: float
    num_gpus: float

    def __str__(self) -> str:
        cores = f"{self.num_cpus:g} CPU core{'s' * (self.num_cpus != 1)}"
        return f"{cores} and {self.num_gpus:g} GPU{'s' * (self.num_gpus != 1)}" if self.num_gpus else cores

    def num_fitting(self, worker: Machine) -> int:
        """How many such workers it has room for."""
        num_by_cpus = _times(self.num_cpus, worker.num_cpus)
        return min(num_by_cpus, _times(self.num_gpus, worker.num_gpus)) if worker.num_gpus else num_by_cpus


def _times(whole: float, part: float) -> int:
    """How often `part` goes into `whole`: five times 0.2 into 1, which floor division denies."""
    return int(whole / part + 1e-6)


def describe(machines: Sequence[Machine]) -> str:
    """What there is, in words: `2 machines of 4 CPU cores, 1 machine of 8 CPU cores and 1 GPU`."""
    counted = Counter(map(str, machines))
    return ", ".join(f"{n} machine{'s' * (n != 1)} of {what}" for what, n in counted.items()) or "no machine"


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class WorkerSettings:
    """How many workers there are and what each holds.

    Attributes:
        num_workers: Workers at the same time, at most.
        num_cpus: CPU cores that each holds; torch uses so many threads.
        num_gpus: GPUs that each holds; 0 runs networks on the CPU.
        mixed_classes: Also workers of another device class than the job was planned for may work on it, at
            the price that its bytes then depend on who did what.
        start_timeout_s: How long the first worker may take to be there, and the next where all are lost.
        silence_s: How long a worker may tell nothing of its task, beside the time that reading the task's
            sources takes on a slow disk, before it is taken for hung and replaced.
        min_workers: Workers that there are also where less is to do.
        machines_may_come: Workers are started only as there is work for them, as each may bring a machine.
    """

    num_workers: int = Field(ge=1, le=10_000)
    num_cpus: float = Field(default=1, gt=0)
    num_gpus: float = Field(default=0, ge=0)
    mixed_classes: bool = False
    start_timeout_s: float = Field(default=_START_S, gt=0)
    silence_s: float = Field(default=_SILENCE_S, gt=0)
    min_workers: int = Field(default=1, ge=1)
    machines_may_come: bool = False


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class WorkerRequest:
    """Who is to do the work, as a person asks for it.

    Attributes:
        device: `auto` takes GPUs where there are any.
        count: Number of workers at most; by default one for each GPU, or one for every four CPU cores.
        min: Number of workers that are kept also where less is to do.
        cpus: CPU cores of each worker; by default an equal share.
        gpus: GPUs of each worker; 0.5 puts two workers on one.
        mixed_classes: See `WorkerSettings`.
        silence_seconds: How long a worker may be silent over one frame before it is taken for hung.
        start_seconds: How long to wait for the first worker, and for the next where all are lost. Where it
            is given, machines may still come, as with an autoscaler: nothing is refused for what the cluster
            has now. By default what is there must do.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    count: int | None = Field(default=None, ge=1, le=10_000)
    min: int = Field(default=1, ge=1, le=10_000)
    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0)
    mixed_classes: bool = False
    silence_seconds: float = Field(default=_SILENCE_S, ge=10)
    start_seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _min_fits(self) -> WorkerRequest:
        if self.count is not None and self.min > self.count:
            raise ValueError(f"min is {self.min}, but count, which is the most, is {self.count}")
        return self

    def settle(self, num_cpus: float, num_gpus: float) -> WorkerSettings:
        """What is started on one machine that has so many CPU cores and GPUs.

        Raises:
            SpecError: It does not have what is asked for.
        """
        return self._settled([Machine(num_cpus, num_gpus)], may_come=False)

    def settle_on(self, machines: Sequence[Machine]) -> WorkerSettings:
        """What is started on a cluster that has these machines now.

        Raises:
            SpecError: None of them has what one worker is to hold, and no others are to be waited for.
        """
        return self._settled(machines, may_come=self.start_seconds is not None)

    def num_local_cpus(self, num_cores: int) -> int:
        """CPU cores that a Ray of our own is told to have: at least what is asked for."""
        return max(num_cores, math.ceil((self.count or 1) * (self.cpus or 0)))

    def _settled(self, machines: Sequence[Machine], *, may_come: bool) -> WorkerSettings:
        if may_come and self.count is None:
            raise SpecError(
                "it is not said how many workers there may be on machines that are still to come",
                where="workers.count",
                expected="the most that there are to be",
                next_step="give workers.count, or leave workers.start_seconds out",
            )
        gpus = self._gpus_each(machines)
        able = [machine for machine in machines if machine.num_gpus >= gpus]
        count = self.count or max(self.min, _default_count(able, gpus))
        cpus = self.cpus or (_cpus_alone(able, gpus) if may_come else _equal_share(able, gpus, count))
        worker = Machine(cpus, gpus)
        if not may_come and not any(machine.num_fitting(worker) for machine in able):
            raise SpecError(
                "no machine has what one worker is to hold",
                where="workers",
                got=f"{worker} asked for",
                expected=f"at most what one of these has: {describe(machines)}",
                next_step=f"ask for less{', or for --device cpu' if gpus else ''}; where machines are still "
                "to come, say with workers.start_seconds how long to wait for them",
            )
        return WorkerSettings(
            count,
            cpus,
            gpus,
            self.mixed_classes,
            start_timeout_s=self.start_seconds or _START_S,
            silence_s=self.silence_seconds,
            min_workers=min(self.min, count),
            machines_may_come=may_come,
        )

    def _gpus_each(self, machines: Sequence[Machine]) -> float:
        has_gpus = any(machine.num_gpus for machine in machines)
        if self.device == "cpu" or (self.device == "auto" and not has_gpus and not self.gpus):
            return 0.0
        return self.gpus if self.gpus is not None else 1.0


def _default_count(able: Sequence[Machine], gpus: float) -> int:
    if gpus:
        return max(1, sum(_times(machine.num_gpus, gpus) for machine in able))
    return max(1, sum(max(int(m.num_cpus >= 1), int(m.num_cpus // _CPUS_PER_WORKER)) for m in able))


def _cpus_alone(able: Sequence[Machine], gpus: float) -> float:
    """Cores of a worker as if it had the machine with its like: more of them are to bring more machines."""
    shares = [
        m.num_cpus // max(1, _times(m.num_gpus, gpus)) if gpus else min(_CPUS_PER_WORKER, m.num_cpus)
        for m in able
    ]
    return max([1.0, *shares])


def _equal_share(able: Sequence[Machine], gpus: float, count: int) -> float:
    """The most whole cores that each of `count` workers can have, or a part of one where they are too few."""

    def num_fitting(num_cpus: float) -> int:
        return sum(machine.num_fitting(Machine(num_cpus, gpus)) for machine in able)

    num_wanted = min(count, num_fitting(_SMALLEST_SHARE))  # GPUs may be fewer
    largest = int(max((machine.num_cpus for machine in able), default=1))
    for num_cpus in range(largest, 0, -1):
        if num_fitting(num_cpus) >= num_wanted:
            return float(num_cpus)
    return max(_SMALLEST_SHARE, sum(machine.num_cpus for machine in able) / count)
