"""How many workers are asked for, and of what, on the machines that there are."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cluster.machines import Machine, WorkerRequest
from sr_core.errors import SpecError

SMALL, LARGE, GPUS = Machine(2, 0), Machine(16, 0), Machine(8, 4)


@pytest.mark.parametrize(
    ("request_", "machines", "expected"),
    [
        (WorkerRequest(), [Machine(8, 0)], (2, 4.0, 0.0)),
        (WorkerRequest(), [Machine(2, 0)], (1, 2.0, 0.0)),
        (WorkerRequest(count=3), [Machine(8, 0)], (3, 2.0, 0.0)),
        (WorkerRequest(count=8), [Machine(2, 0)], (8, 0.25, 0.0)),
        (WorkerRequest(), [SMALL] * 10, (10, 2.0, 0.0)),
        (WorkerRequest(count=1), [SMALL] * 10, (1, 2.0, 0.0)),
        (WorkerRequest(count=6), [Machine(0, 0), LARGE, SMALL, SMALL], (6, 2.0, 0.0)),
        (WorkerRequest(min=5), [SMALL], (5, 0.4, 0.0)),
        (WorkerRequest(), [LARGE, GPUS], (4, 2.0, 1.0)),
        (WorkerRequest(gpus=0.2), [GPUS], (20, 0.4, 0.2)),
        (WorkerRequest(device="cpu"), [GPUS], (2, 4.0, 0.0)),
        (WorkerRequest(device="cuda", count=1, start_seconds=60), [], (1, 1.0, 1.0)),
        (WorkerRequest(count=100, start_seconds=60), [LARGE], (100, 4.0, 0.0)),
        (WorkerRequest(count=100, device="cuda", start_seconds=60), [LARGE, GPUS], (100, 2.0, 1.0)),
    ],
    ids=str,
)
def test_workers_share_what_the_machines_have(
    request_: WorkerRequest, machines: list[Machine], expected: tuple[int, float, float]
) -> None:
    settings = request_.settle_on(machines)
    assert (settings.num_workers, settings.num_cpus, settings.num_gpus) == expected


@pytest.mark.parametrize(
    "request_", [WorkerRequest(device="cuda"), WorkerRequest(gpus=1), WorkerRequest(cpus=17)], ids=str
)
def test_what_no_machine_has_is_refused_with_what_they_have(request_: WorkerRequest) -> None:
    machines = [SMALL, SMALL, LARGE]
    with pytest.raises(SpecError) as caught:
        request_.settle_on(machines)
    assert "2 machines of 2 CPU cores, 1 machine of 16 CPU cores" in caught.value.expected
    assert "workers.start_seconds" in caught.value.next_step


def test_machines_that_have_it_only_together_are_refused() -> None:
    with pytest.raises(SpecError, match="4 CPU cores and 1 GPU asked for"):
        WorkerRequest(cpus=4, gpus=1).settle_on([LARGE, Machine(2, 1)])


def test_nothing_is_refused_where_machines_may_still_come() -> None:
    settings = WorkerRequest(device="cuda", cpus=64, start_seconds=900, count=4).settle_on([SMALL])
    assert (settings.num_cpus, settings.num_gpus, settings.start_timeout_s) == (64, 1, 900)


def test_this_machine_alone_does_not_grow() -> None:
    with pytest.raises(SpecError):
        WorkerRequest(device="cuda", start_seconds=900).settle(2, 0)


def test_the_least_number_of_workers_is_not_above_the_most() -> None:
    with pytest.raises(ValidationError, match="count"):
        WorkerRequest(count=2, min=3)
