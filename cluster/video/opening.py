"""What opening an encoder may not do to the process around it.

SVT-AV1, where it may (as root), puts the thread that opens it and all its own before everything else on the
machine: SCHED_FIFO at 99. All that such a thread starts inherits it, and a machine whose cores such threads
want stands still. It also prints its settings, unless it is told to print errors alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)


@contextlib.contextmanager
def opening_encoder() -> Iterator[None]:
    """Within it, an encoder is opened: threads of this process have no real-time priority after it.

    Nothing is taken where the calling thread had it before: then somebody wants it.
    """
    os.environ.setdefault("SVT_LOG", "1")
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if policy not in _REAL_TIME:
            for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    if os.sched_getscheduler(thread) in _REAL_TIME:
                        os.sched_setscheduler(thread, policy, parameters)
