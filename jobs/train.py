"""`framelift train`, also as `python -m jobs.train train.yaml`."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import torch
from rich.text import Text

from cluster.storage.address import join_url
from cluster.training import TrainJob
from cluster.training import train as train_here
from jobs.device import device_here
from jobs.train_plan import show_plan, write_sheet
from jobs.train_spec import TrainSpec, TrainWorkers
from jobs.train_tasks import network_at
from jobs.train_view import TrainView
from jobs.view import console, printable
from jobs.which_ray import close_off_local_ray, cluster_address
from sr_core.train.group import Group

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOST_MACHINES = 4


class Stop:
    """Within its `with` block, Ctrl-C and SIGTERM ask a run to stop after its batch.

    Asked once more, or while there is no batch yet that would be lost, they raise KeyboardInterrupt.

    Attributes:
        is_asked: Whether it was asked.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.is_asked = False
        self._end_s = None if minutes is None else time.monotonic() + 60 * minutes
        self._has_begun = False

    def __enter__(self) -> Self:
        self._handlers = [signal.signal(number, self._ask) for number in _SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            signal.signal(number, handler)

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._end_s is not None and time.monotonic() >= self._end_s

    def is_over(self) -> bool:
        """Whether to stop after this batch."""
        self._has_begun = True
        return self.is_asked or self.is_late

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked or not self._has_begun:
            raise KeyboardInterrupt
        self.is_asked = True


def train(spec: TrainSpec, *, is_plan: bool = False, sheet_path: Path | None = None) -> int:
    """Trains what `spec` asks for, from where it was, and shows how it goes.

    Args:
        spec: What to train, on what, and for how long.
        is_plan: Only say what would be done.
        sheet_path: Only write there what the first crops look like, as PNG.

    Returns:
        The exit code; 0 also where its time was over before it was done.

    Raises:
        FrameliftError: The spec cannot be done, or a step, a store or the workers ended it.
        KeyboardInterrupt: It was stopped, and what it was at is kept.
    """
    job = job_of(spec)
    if sheet_path is not None:
        write_sheet(job, sheet_path)
    if is_plan:
        show_plan(job, console())
    if is_plan or sheet_path is not None:
        return 0
    with Stop(spec.minutes) as stop:
        with TrainView(stop) as view:
            is_done = _run(job, spec, stop, view)
        if is_done:
            place = join_url(job.output_url, "best.safetensors")
            console().print(Text(f"done; the best weights: {printable(place)}"), soft_wrap=True)
            return 0
        if stop.is_asked:
            raise KeyboardInterrupt
        print("stopped for now with a checkpoint; the same command goes on from there", file=sys.stderr)
        return 0 if stop.is_late else _LOST_MACHINES


def job_of(spec: TrainSpec) -> TrainJob:
    """What `spec` asks for, with the network of the weights that it starts from, where it names none.

    Raises:
        SpecError: The weights are of no network that can be trained.
        ModelError: They cannot be used.
        StorageError: Their store refuses or fails.
    """
    return spec.job(spec.network or network_at(spec.start_url or ""))


def _run(job: TrainJob, spec: TrainSpec, stop: Stop, view: TrainView) -> bool:
    address = cluster_address()
    if spec.workers.count == 1 and address is None:
        return train_here(job, _alone(spec.workers), view.counting(stop.is_over), view.tell)
    if address is None:
        close_off_local_ray()
    from cluster.training.workers import TrainRequest, train_on  # loading Ray takes a second

    request = TrainRequest(
        count=spec.workers.count,
        device=spec.workers.device,
        cpus=spec.workers.cpus,
        gpus=spec.workers.gpus,
        max_failures=spec.max_failures,
        start_seconds=spec.workers.start_seconds,
        address=address,
    )
    return train_on(job, request, stop.is_over, view.tell)


def _alone(workers: TrainWorkers) -> Group:
    """This process as the only worker."""
    if workers.cpus is not None:
        torch.set_num_threads(max(1, round(workers.cpus)))
    return Group(device=torch.device("cpu" if workers.gpus == 0 else device_here(workers.device)))


if __name__ == "__main__":
    from jobs.cli import main

    main(["train", *sys.argv[1:]])
