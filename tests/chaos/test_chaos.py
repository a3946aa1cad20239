"""A short run of `python -m tests.chaos`."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.faults import plan_faults
from tests.chaos.stage import stage

_KINDS = ("worker killed", "driver killed", "store: burst", "part spoiled")


@pytest.mark.slow
def test_a_job_that_everything_happens_to_gives_the_bytes_of_an_undisturbed_one() -> None:
    folder = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))  # short, as Ray makes sockets below it
    rng = random.Random(1)
    with stage(folder, ("s3",)) as made:
        undisturbed = made.measure("s3")
        kinds = [kind for kind in made.kinds("s3") if kind.name in _KINDS]
        planned = [fault for kind in kinds for fault in plan_faults((kind,), 1, made.num_segments("s3"), rng)]
        account = made.play("all", "s3", planned, rng)

    assert [undisturbed.exit_codes, undisturbed.findings] == [[0], []]
    assert account.findings == [], f"what was found lies in {folder}"
    assert account.struck.total() >= 2
    assert account.exit_codes[-1] == 0
    shutil.rmtree(folder)
